"""Razorpay as a PaymentGateway: orders and payments over its REST API, checkout on its hosted page.

Source: razorpay.com/docs api/orders, api/payments, payment-gateway/web-integration/hosted (read 2026-04).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiohttp import encode_basic_auth

from integrations.breaker import CircuitBreaker
from integrations.http import Answer, HttpClient, HttpLimits, Recorder, log_call
from integrations.ports import (
    Checkout,
    CheckoutRequest,
    CheckoutReturn,
    FormRedirect,
    GatewayPayment,
    ProviderOutcomeUnknown,
    ProviderRefused,
    ProviderUnavailable,
    ReturnOutcome,
    SignatureError,
    WebhookEvent,
)
from integrations.razorpay import mapping, webhook
from integrations.signatures import signed_with_any

NAME: Final = "razorpay"
MAX_REFERENCE: Final = 40

# What may be stored of a request or an answer: ids, amounts and verdicts, nothing about a person.
# fmt: off
VISIBLE: Final = frozenset({
    "id", "entity", "count", "status", "created_at", "receipt", "order_id", "attempts", "method", "captured",
    "amount", "amount_paid", "amount_due", "currency", "fee", "tax",
    "error_code", "error_source", "error_step", "error_reason", "code", "source", "step", "reason", "field",
})
# fmt: on

_ID = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RazorpayConfig:
    """An account at Razorpay. During a rotation `webhook_secrets` holds the new secret and the old one."""

    key_id: str
    key_secret: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    merchant_name: str
    base_url: str = "https://api.razorpay.com"

    def __post_init__(self) -> None:
        # An HMAC under an empty key is a signature that anybody can make.
        if not self.key_id or not self.key_secret or not self.webhook_secrets or not all(self.webhook_secrets):
            raise ValueError("every Razorpay credential must be set")


class RazorpayGateway:
    """Implements ports.PaymentGateway. Close it when the process ends."""

    def __init__(
        self, config: RazorpayConfig, *, limits: HttpLimits | None = None, record: Recorder = log_call
    ) -> None:
        self._config = config
        self._http = HttpClient(
            NAME,
            config.base_url,
            headers={"Authorization": encode_basic_auth(config.key_id, config.key_secret)},
            visible=VISIBLE,
            limits=limits or HttpLimits(),
            breaker=CircuitBreaker(),
            record=record,
        )

    @property
    def name(self) -> str:
        """The word for this gateway in rows, routes and metrics."""
        return NAME

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def start(self, request: CheckoutRequest) -> Checkout:
        """Create an order and the form that takes the payer to hosted checkout.

        POST /v1/orders has no documented idempotency key, so a repeat makes another order; see ports.
        """
        if not 0 < len(request.reference) <= MAX_REFERENCE:
            raise ValueError(f"a reference has 1 to {MAX_REFERENCE} characters")
        answer = await self._http.post("orders.create", "/v1/orders", body=mapping.order_body(request))
        body = _accepted(answer, "orders.create")
        try:
            order_id = mapping.order_id(body, request)
        except mapping.MalformedDocument as fault:
            raise ProviderOutcomeUnknown(NAME, "orders.create", f"unexpected {fault}") from fault
        fields = mapping.checkout_fields(
            request, key_id=self._config.key_id, merchant=self._config.merchant_name, order=order_id
        )
        return Checkout(order_id, FormRedirect(f"{self._config.base_url}/v1/checkout/embedded", fields))

    def verify_return(self, form: Mapping[str, str], *, gateway_order_id: str) -> CheckoutReturn:
        """Read the form that hosted checkout posts; success is signed, failure is not."""
        if "razorpay_signature" in form:
            payment_id = form.get("razorpay_payment_id", "")
            message = f"{gateway_order_id}|{payment_id}".encode("utf-8", "replace")
            if not signed_with_any([self._config.key_secret], message, form["razorpay_signature"]):
                raise SignatureError("checkout signature does not match")
            return CheckoutReturn(outcome=ReturnOutcome.PAID_CLAIMED, payment_id=payment_id)
        if "error[code]" in form:
            return mapping.failed_return(form, gateway_order_id=gateway_order_id)
        raise SignatureError("neither a signed success nor a failure")

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes) -> None:
        """Raise SignatureError unless the raw body was signed with one of the configured secrets."""
        webhook.verify(headers, raw, secrets=self._config.webhook_secrets)

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> WebhookEvent:
        """Read a verified delivery. Raises MalformedWebhook."""
        return webhook.parse(headers, raw)

    async def fetch_payment(self, payment_id: str) -> GatewayPayment:
        """GET /v1/payments/:id."""
        payment = await self._read("payments.fetch", "/v1/payments/{}", payment_id, mapping.payment)
        if payment.id != payment_id:
            raise ProviderUnavailable(NAME, "payments.fetch", "answered about another payment")
        return payment

    async def list_order_payments(self, order_id: str) -> list[GatewayPayment]:
        """GET /v1/orders/:id/payments."""
        payments = await self._read("orders.payments", "/v1/orders/{}/payments", order_id, mapping.payments)
        if any(payment.order_id != order_id for payment in payments):
            raise ProviderUnavailable(NAME, "orders.payments", "answered about another order")
        return payments

    async def _read(self, operation: str, path: str, entity_id: str, decode: Callable[[Any], _T]) -> _T:
        if _ID.fullmatch(entity_id) is None:  # it becomes a piece of the path
            raise ProviderRefused(NAME, operation, "not an id", status=400, code=None, field=None)
        body = _accepted(await self._http.get(operation, path.format(entity_id)), operation)
        try:
            return decode(body)
        except mapping.MalformedDocument as fault:
            raise ProviderUnavailable(NAME, operation, f"unexpected {fault}") from fault


def _accepted(answer: Answer, operation: str) -> Any:
    """Return the document of a 2xx; explain a 4xx."""
    if answer.status < 300:
        return answer.body
    if answer.status in (401, 403):
        # Ours to mend, not the payer's: keys are wrong or revoked, and nothing was done.
        raise ProviderUnavailable(NAME, operation, f"credentials not accepted (HTTP {answer.status})")
    body = answer.body if isinstance(answer.body, dict) else {}
    error = body.get("error")
    words = error if isinstance(error, dict) else {}
    raise ProviderRefused(
        NAME,
        operation,
        mapping.optional_text(words, "reason") or f"HTTP {answer.status}",
        status=answer.status,
        code=mapping.optional_text(words, "code"),
        field=mapping.optional_text(words, "field"),
    )
