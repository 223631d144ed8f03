"""Razorpay's words to ours and back. Pure; what is not recognised is pending, never paid.

Source: razorpay.com/docs api/orders/entity, api/payments/entity (read 2026-04).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from contracts.money import Money, MoneyError
from integrations.ports import (
    CheckoutRequest,
    CheckoutReturn,
    GatewayPayment,
    GatewayPaymentStatus,
    ReturnOutcome,
)

PAYMENT_STATUS: Final = {
    "created": GatewayPaymentStatus.PENDING,
    "authorized": GatewayPaymentStatus.AUTHORIZED,
    "captured": GatewayPaymentStatus.CAPTURED,
    "refunded": GatewayPaymentStatus.REFUNDED,
    "failed": GatewayPaymentStatus.FAILED,
}

# Capture whatever the bank confirms within three days, so that a late authorisation still arrives as
# money; give back what is still not captured after five. Minutes; api/orders/create.
AUTOMATIC_CAPTURE: Final = {
    "capture": "automatic",
    "capture_options": {
        "automatic_expiry_period": 4_320,
        "manual_expiry_period": 7_200,
        "refund_speed": "normal",
    },
}


class MalformedDocument(Exception):
    """A document is not the documented shape; the message names the field, never its value."""


def order_body(request: CheckoutRequest) -> dict[str, Any]:
    """Return the body of POST /v1/orders."""
    return {
        "amount": request.amount.minor(),
        "currency": request.amount.currency,
        "receipt": request.reference,
        "notes": dict(request.notes),
        "payment": AUTOMATIC_CAPTURE,
    }


def order_id(document: Any, request: CheckoutRequest) -> str:
    """Return the id of a created order, after checking that it is the order we asked for."""
    order = _mapping(document, "order")
    for field, expected in order_body(request).items():
        if field in ("amount", "currency", "receipt") and order.get(field) != expected:
            raise MalformedDocument(field)
    return text(order, "id")


def checkout_fields(request: CheckoutRequest, *, key_id: str, merchant: str, order: str) -> dict[str, str]:
    """Return the fields that the payer's browser posts to hosted checkout."""
    fields = {
        "key_id": key_id,
        "name": merchant,
        "order_id": order,
        "amount": str(request.amount.minor()),
        "currency": request.amount.currency,
        "description": request.description,
        "callback_url": request.return_url,
        "cancel_url": request.cancel_url,
    }
    payer = {"name": request.payer_name, "email": request.payer_email, "contact": request.payer_contact}
    fields |= {f"prefill[{field}]": value for field, value in payer.items() if value is not None}
    return fields | {f"notes[{field}]": value for field, value in request.notes.items()}


def payment(document: Any) -> GatewayPayment:
    """Read a payment entity. Decides on `status` alone: `captured` is documented to disagree at times."""
    entity = _mapping(document, "payment")
    currency = text(entity, "currency")
    return GatewayPayment(
        id=text(entity, "id"),
        order_id=optional_text(entity, "order_id"),
        amount=_money(entity, "amount", currency),
        status=PAYMENT_STATUS.get(text(entity, "status"), GatewayPaymentStatus.PENDING),
        fee=_optional_money(entity, "fee", currency),
        tax=_optional_money(entity, "tax", currency),
        method=optional_text(entity, "method"),
        error_code=optional_text(entity, "error_code"),
        error_reason=optional_text(entity, "error_reason"),
        created_at=instant(entity, "created_at"),
    )


def payments(document: Any) -> list[GatewayPayment]:
    """Read a collection of payments."""
    items = _mapping(document, "collection").get("items")
    if not isinstance(items, list):
        raise MalformedDocument("items")
    return [payment(item) for item in items]


def failed_return(form: Mapping[str, str], *, gateway_order_id: str) -> CheckoutReturn:
    """Read the unsigned `error[…]` fields; the payment is named only when they speak of our order."""
    reason = form.get("error[reason]") or None
    return CheckoutReturn(
        outcome=ReturnOutcome.CANCELLED if reason == "payment_cancelled" else ReturnOutcome.FAILED,
        payment_id=_failed_payment_id(form.get("error[metadata]", ""), gateway_order_id),
        error_code=form.get("error[code]") or None,
        error_reason=reason,
    )


def _failed_payment_id(metadata: str, gateway_order_id: str) -> str | None:
    try:
        document = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("order_id") != gateway_order_id:
        return None
    return optional_text(document, "payment_id")


def text(document: Mapping[str, Any], field: str) -> str:
    """Return a text that must be there."""
    value = optional_text(document, field)
    if value is None:
        raise MalformedDocument(field)
    return value


def optional_text(document: Mapping[str, Any], field: str) -> str | None:
    """Return a text, or None when it is absent, null or empty: all three are documented for "none"."""
    value = document.get(field)
    return value if isinstance(value, str) and value else None


def instant(document: Mapping[str, Any], field: str) -> datetime:
    """Return an instant given in Unix seconds."""
    try:
        return datetime.fromtimestamp(_integer(document, field), UTC)
    except (OverflowError, OSError, ValueError):
        raise MalformedDocument(field) from None


def _money(document: Mapping[str, Any], field: str, currency: str) -> Money:
    minor = _integer(document, field)
    if minor < 0:
        raise MalformedDocument(field)
    try:
        return Money.from_minor(minor, currency)
    except MoneyError:
        raise MalformedDocument(field) from None


def _optional_money(document: Mapping[str, Any], field: str, currency: str) -> Money | None:
    return None if document.get(field) is None else _money(document, field, currency)


def _integer(document: Mapping[str, Any], field: str) -> int:
    value = document.get(field)
    if type(value) is not int:  # a bool is an int, and a Decimal means that somebody sent "1.5"
        raise MalformedDocument(field)
    return value


def _mapping(document: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise MalformedDocument(name)
    return document
