"""What a deposit does when the gateway's record of a payment is known.

    created ──order open──▶ pending ──payment captured──▶ paid
                               │ ▲
                               └─┘ payment failed: the payer may try again

A payment may be reported failed first and captured days later (late authorisation), and reports come in any order:
a deposit only ever moves to the right. Money that fits no deposit is parked for a person, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from contracts.errors import AppError, Conflict, NotAuthenticated, NotFound, Refused, Unavailable
from contracts.money import Money
from integrations.ports import GatewayPayment, GatewayPaymentStatus

State = Literal["created", "pending", "paid"]


class DepositUnknown(NotFound):
    code, title = "deposit.unknown", "No such deposit"


class CheckoutUnknown(NotFound):
    code, title = "checkout.unknown", "No such checkout"


class CheckoutNotOpen(Conflict):
    code, title = "checkout.not_open", "This checkout is not open yet"


class GatewayUnavailable(Unavailable):
    """The gateway did not open an order; nothing was charged and the same key may be sent again."""

    code, title = "payments.gateway_unavailable", "The payment gateway does not answer"
    retry_after_s = 5


class ReturnUnsigned(Refused):
    code, title = "payments.return_unsigned", "This return was not signed by the gateway"


class ReturnMalformed(AppError):
    status, code, title = 400, "payments.return_malformed", "The form cannot be read"


class WebhookUnsigned(NotAuthenticated):
    code, title = "webhook.unsigned", "The signature does not match the body"

    def __init__(self, vendor: str) -> None:
        super().__init__()
        self.headers["WWW-Authenticate"] = f'HMAC realm="{vendor}"'


class WebhookMalformed(AppError):
    status, code, title = 400, "webhook.malformed", "The delivery cannot be read"


@dataclass(frozen=True, slots=True)
class Deposit:
    """One row of `deposits`."""

    id: str
    user_id: str
    amount: Money
    gateway: str
    state: State
    checkout_id: str
    checkout_form: dict[str, Any] | None
    gateway_order_id: str | None
    gateway_payment_id: str | None
    ledger_transaction_id: str | None
    last_failure_code: str | None
    created_at: datetime
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class Credit:
    """Book the payment and mark the deposit paid."""

    deposit: Deposit


@dataclass(frozen=True, slots=True)
class NoteFailure:
    """Remember why an attempt to pay failed; the deposit stays open."""

    deposit: Deposit
    code: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """Known already, or not yet money."""

    reason: str


@dataclass(frozen=True, slots=True)
class Park:
    """The gateway holds money that this deposit does not explain."""

    reason: str


Decision = Credit | NoteFailure | Nothing | Park


def decide(deposit: Deposit | None, payment: GatewayPayment) -> Decision:
    """Say what a payment, as the gateway holds it now, means for the deposit of its order (None: we know none)."""
    match payment.status:
        case GatewayPaymentStatus.PENDING | GatewayPaymentStatus.AUTHORIZED:
            return Nothing("not_captured")
        case GatewayPaymentStatus.FAILED:
            return _failed(deposit, payment)
        case GatewayPaymentStatus.REFUNDED:
            known = deposit is not None and deposit.gateway_payment_id == payment.id
            return Nothing("already_credited") if known else Park("refunded_unknown")
        case GatewayPaymentStatus.CAPTURED:
            return _captured(deposit, payment)


def _failed(deposit: Deposit | None, payment: GatewayPayment) -> Decision:
    if deposit is None:
        return Nothing("failed_unknown_order")
    if deposit.state == "paid":
        return Nothing("failed_after_paid")
    code = payment.error_reason or payment.error_code or "payment_failed"
    return NoteFailure(deposit, code[:64].lower())


def _captured(deposit: Deposit | None, payment: GatewayPayment) -> Decision:
    if deposit is None:
        return Park("unknown_order")
    if deposit.state == "paid":
        return Nothing("already_credited") if deposit.gateway_payment_id == payment.id else Park("paid_twice")
    if payment.amount != deposit.amount:
        return Park("amount_mismatch")
    return Credit(deposit)
