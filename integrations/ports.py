"""What we ask of other people's machines: the only module of an adapter that handlers may see.

Amounts are `Money`, instants are aware UTC datetimes, ids are the vendor's own text. Nothing here
says what an answer means for a wallet: an adapter reports, a slice decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from contracts.money import Money


class ProviderError(Exception):
    """A provider did not do what it was asked. `provider` is its name, `operation` what was asked of it."""

    def __init__(self, provider: str, operation: str, reason: str) -> None:
        super().__init__(f"{provider} {operation}: {reason}")
        self.provider = provider
        self.operation = operation
        self.reason = reason


class ProviderUnavailable(ProviderError):
    """Nothing happened at the provider; asking again later is safe.

    Also raised for a read that got no usable answer, because a read changes nothing.
    `retry_after_s` is the provider's own wish, when it told one.
    """

    def __init__(self, provider: str, operation: str, reason: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(provider, operation, reason)
        self.retry_after_s = retry_after_s


class ProviderOutcomeUnknown(ProviderError):
    """The request was sent and no trustworthy answer came: it may have been carried out.

    Never repeat blindly; find out by our own reference first.
    """


class ProviderRefused(ProviderError):
    """The provider understood and said no; the same request will be refused again.

    `code` and `field` are the provider's own words, for logs and staff, not for players.
    """

    def __init__(
        self, provider: str, operation: str, reason: str, *, status: int, code: str | None, field: str | None
    ) -> None:
        super().__init__(provider, operation, reason)
        self.status = status
        self.code = code
        self.field = field


class SignatureError(Exception):
    """What arrived was not signed by the provider; nothing in it may be believed."""


class MalformedWebhook(Exception):
    """The signature holds but the delivery cannot be read: no event key, or not the documented shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutRequest:
    """A payment that a person is about to make. `reference` is our own id, at most 40 characters."""

    reference: str
    amount: Money
    description: str
    return_url: str
    cancel_url: str
    payer_name: str | None = None
    payer_email: str | None = None
    payer_contact: str | None = None
    notes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FormRedirect:
    """Where the payer's browser goes: an `application/x-www-form-urlencoded` POST of `fields` to `url`."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checkout:
    """An order open at the gateway. Store `gateway_order_id` before sending the payer away."""

    gateway_order_id: str
    redirect: FormRedirect


class ReturnOutcome(StrEnum):
    """What the returning browser says. Only `paid_claimed` is signed, and even that is not the money."""

    PAID_CLAIMED = "paid_claimed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutReturn:
    """A browser back from checkout. `failed` and `cancelled` are unsigned hints: show them, book nothing."""

    outcome: ReturnOutcome
    payment_id: str | None
    error_code: str | None = None
    error_reason: str | None = None


class WebhookKind(StrEnum):
    """The provider's news in our words; `ignored` is every kind that we have no use for."""

    PAYMENT_AUTHORIZED = "payment_authorized"
    PAYMENT_CAPTURED = "payment_captured"
    PAYMENT_FAILED = "payment_failed"
    ORDER_PAID = "order_paid"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """A hint that something happened; fetch the payment before believing it.

    `event_key` is the same on every delivery of one event. `name` is the provider's own word for it.
    Ids are None where the event does not name one; an `ignored` event names none.
    """

    event_key: str
    kind: WebhookKind
    name: str
    payment_id: str | None
    order_id: str | None
    occurred_at: datetime | None


class GatewayPaymentStatus(StrEnum):
    """States of one payment attempt. A `failed` one may still become authorized or captured, days later."""

    PENDING = "pending"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    FAILED = "failed"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPayment:
    """A payment as the gateway holds it now: the fact behind every hint.

    `fee` includes `tax`; both are None until the payment is captured.
    """

    id: str
    order_id: str | None
    amount: Money
    status: GatewayPaymentStatus
    fee: Money | None
    tax: Money | None
    method: str | None
    error_code: str | None
    error_reason: str | None
    created_at: datetime


class PaymentGateway(Protocol):
    """A gateway that takes a person's money through its own page.

    Every call may raise ProviderUnavailable or ProviderRefused; `start` also ProviderOutcomeUnknown.
    """

    @property
    def name(self) -> str:
        """The word for this gateway in rows, routes and metrics."""
        ...

    async def start(self, request: CheckoutRequest) -> Checkout:
        """Open an order and tell where to send the payer.

        Not idempotent: after ProviderOutcomeUnknown a second call opens a second order. An order nobody
        pays costs nothing, so that is safe as long as each order id is stored with its own attempt.
        """
        ...

    def verify_return(self, form: Mapping[str, str], *, gateway_order_id: str) -> CheckoutReturn:
        """Read what the browser brought back, against the order id that we stored.

        Raises SignatureError when a claimed success is not signed for exactly that order, and when the
        form is nothing that the gateway sends.
        """
        ...

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes) -> None:
        """Raise SignatureError unless the raw body was signed with one of the configured secrets."""
        ...

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> WebhookEvent:
        """Read a verified delivery. Raises MalformedWebhook."""
        ...

    async def fetch_payment(self, payment_id: str) -> GatewayPayment:
        """Ask for one payment as it is now."""
        ...

    async def list_order_payments(self, order_id: str) -> list[GatewayPayment]:
        """Ask for every attempt to pay one order, in no particular order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailMessage:
    """One mail. `message_id` is our own id: a repeat carries the same Message-ID."""

    message_id: str
    to: str
    subject: str
    text: str
    html: str | None = None


class EmailSender(Protocol):
    """A way to hand over mail."""

    async def send(self, message: EmailMessage) -> None:
        """Hand over one mail.

        Raises ProviderRefused for an address or a mail that will never be taken, ProviderUnavailable
        when it was not taken, ProviderOutcomeUnknown when it may have been.
        """
        ...
