"""Razorpay's webhooks: verify the raw bytes, then read them.

Source: razorpay.com/docs webhooks/validate-test, webhooks/payments, webhooks/orders (read 2026-04).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from integrations.ports import MalformedWebhook, SignatureError, WebhookEvent, WebhookKind
from integrations.razorpay.mapping import MalformedDocument, instant, optional_text, text
from integrations.signatures import signed_with_any

SIGNATURE_HEADER: Final = "x-razorpay-signature"
EVENT_ID_HEADER: Final = "x-razorpay-event-id"
MAX_EVENT_ID: Final = 128

KINDS: Final = {
    "payment.authorized": WebhookKind.PAYMENT_AUTHORIZED,
    "payment.captured": WebhookKind.PAYMENT_CAPTURED,
    "payment.failed": WebhookKind.PAYMENT_FAILED,
    "order.paid": WebhookKind.ORDER_PAID,
}


def verify(headers: Mapping[str, str], raw: bytes, *, secrets: Sequence[str]) -> None:
    """Raise SignatureError unless one of `secrets` signed exactly these bytes.

    Several secrets, because retries of events made before a rotation keep the old signature.
    """
    if not signed_with_any(secrets, raw, _header(headers, SIGNATURE_HEADER)):
        raise SignatureError("webhook signature does not match")


def parse(headers: Mapping[str, str], raw: bytes) -> WebhookEvent:
    """Read a verified delivery. Raises MalformedWebhook."""
    event_key = _header(headers, EVENT_ID_HEADER)
    if not 0 < len(event_key) <= MAX_EVENT_ID:  # not covered by the signature, so it may be anything
        raise MalformedWebhook(f"header {EVENT_ID_HEADER} is missing or too long")
    try:
        document = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
        if not isinstance(document, dict):
            raise MalformedDocument("body")
        return _event(document, event_key)
    except (ValueError, RecursionError) as fault:
        raise MalformedWebhook("body is not JSON") from fault
    except MalformedDocument as fault:
        raise MalformedWebhook(f"unexpected shape at {fault}") from fault


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are no JSON (RFC 8259 §6), and no number that anybody can book."""
    raise ValueError("not a JSON number")


def _event(document: Mapping[str, Any], event_key: str) -> WebhookEvent:
    name = text(document, "event")
    kind = KINDS.get(name, WebhookKind.IGNORED)
    if kind is WebhookKind.IGNORED:
        return WebhookEvent(event_key=event_key, kind=kind, name=name, payment_id=None, order_id=None, occurred_at=None)
    payment = _payment(document)
    return WebhookEvent(
        event_key=event_key,
        kind=kind,
        name=name,
        payment_id=text(payment, "id"),
        order_id=optional_text(payment, "order_id"),
        occurred_at=instant(document, "created_at"),
    )


def _payment(document: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = document
    for step in ("payload", "payment", "entity"):
        node = node.get(step)
        if not isinstance(node, dict):
            raise MalformedDocument(step)
    return node  # type: ignore[no-any-return]


def _header(headers: Mapping[str, str], name: str) -> str:
    """Return a header whatever its case, so that headers stored as a plain mapping work too."""
    return next((value for key, value in headers.items() if key.lower() == name), "")
