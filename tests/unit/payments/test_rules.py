from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contracts.money import Money
from handlers.payments.rules import Credit, Deposit, NoteFailure, Nothing, Park, decide
from integrations.ports import GatewayPayment, GatewayPaymentStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEPOSIT = Deposit(
    id="dep_1",
    user_id="usr_1",
    amount=Money.parse("500.00", "INR"),
    gateway="razorpay",
    state="pending",
    checkout_id="chk_1",
    checkout_form={},
    gateway_order_id="order_1",
    gateway_payment_id=None,
    ledger_transaction_id=None,
    last_failure_code=None,
    created_at=NOW,
    paid_at=None,
)
PAID = replace(DEPOSIT, state="paid", gateway_payment_id="pay_1", ledger_transaction_id="txn_1", paid_at=NOW)
PAYMENT = GatewayPayment(
    id="pay_1",
    order_id="order_1",
    amount=Money.parse("500.00", "INR"),
    status=GatewayPaymentStatus.CAPTURED,
    fee=None,
    tax=None,
    method="upi",
    error_code=None,
    error_reason=None,
    created_at=NOW,
)


def payment(status: GatewayPaymentStatus, **changes: object) -> GatewayPayment:
    return replace(PAYMENT, status=status, **changes)  # type: ignore[arg-type]


def test_a_captured_payment_of_the_right_amount_is_credited() -> None:
    assert decide(DEPOSIT, PAYMENT) == Credit(DEPOSIT)


def test_a_payment_that_failed_first_and_was_captured_later_is_credited() -> None:
    failed_before = replace(DEPOSIT, last_failure_code="payment_timed_out")
    assert decide(failed_before, PAYMENT) == Credit(failed_before)


@pytest.mark.parametrize("paise", [49_999, 50_001, 100])
def test_another_amount_is_never_credited(paise: int) -> None:
    assert decide(DEPOSIT, replace(PAYMENT, amount=Money.from_minor(paise, "INR"))) == Park("amount_mismatch")


def test_the_same_payment_again_changes_nothing() -> None:
    assert decide(PAID, PAYMENT) == Nothing("already_credited")


def test_a_second_payment_of_a_paid_order_is_parked() -> None:
    assert decide(PAID, replace(PAYMENT, id="pay_2")) == Park("paid_twice")


def test_money_without_a_deposit_is_parked() -> None:
    assert decide(None, PAYMENT) == Park("unknown_order")


@pytest.mark.parametrize("status", [GatewayPaymentStatus.PENDING, GatewayPaymentStatus.AUTHORIZED])
@pytest.mark.parametrize("deposit", [DEPOSIT, PAID, None])
def test_what_is_not_captured_is_not_money(status: GatewayPaymentStatus, deposit: Deposit | None) -> None:
    assert decide(deposit, payment(status)) == Nothing("not_captured")


def test_a_failure_leaves_the_deposit_open_with_its_reason() -> None:
    failed = payment(GatewayPaymentStatus.FAILED, error_code="BAD_REQUEST_ERROR", error_reason="payment_cancelled")
    assert decide(DEPOSIT, failed) == NoteFailure(DEPOSIT, "payment_cancelled")


def test_a_failure_that_arrives_after_the_money_changes_nothing() -> None:
    assert decide(PAID, payment(GatewayPaymentStatus.FAILED)) == Nothing("failed_after_paid")


def test_a_refund_of_what_was_never_credited_is_parked() -> None:
    assert decide(DEPOSIT, payment(GatewayPaymentStatus.REFUNDED)) == Park("refunded_unknown")
    assert decide(PAID, payment(GatewayPaymentStatus.REFUNDED)) == Nothing("already_credited")
