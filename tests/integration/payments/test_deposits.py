"""From the inbox to the wallet, with the gateway at its seam: what each report of a payment does, however often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.money import Money
from handlers.payments.jobs import Jobs
from handlers.payments.rules import DepositUnknown, GatewayUnavailable
from handlers.payments.service import Deposits, PaymentsConfig
from integrations import inbox
from integrations.ports import (
    Checkout,
    CheckoutRequest,
    CheckoutReturn,
    FormRedirect,
    GatewayPayment,
    GatewayPaymentStatus,
    PaymentGateway,
    ProviderOutcomeUnknown,
    ProviderUnavailable,
    WebhookEvent,
    WebhookKind,
)
from ledger import accounts, balances, checks
from storage.db import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIVE_HUNDRED = Money.parse("500.00", "INR")
USER = "usr_a"
KEY = "k" * 20


class FakeGateway:
    """A gateway at the port: orders it opened, payments it holds, and faults to come."""

    name = "razorpay"

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.payments: dict[str, GatewayPayment] = {}
        self.faults: list[Exception] = []

    def pay(self, order: str, **changes: Any) -> GatewayPayment:
        payment = GatewayPayment(
            id=f"pay_{len(self.payments) + 1}",
            order_id=order,
            amount=FIVE_HUNDRED,
            method="upi",
            fee=None,
            tax=None,
            status=GatewayPaymentStatus.CAPTURED,
            error_code=None,
            error_reason=None,
            created_at=NOW,
        )
        self.payments[payment.id] = payment = replace(payment, **changes)
        return payment

    async def start(self, request: CheckoutRequest) -> Checkout:
        if self.faults:
            raise self.faults.pop(0)
        self.orders.append(f"order_{len(self.orders) + 1}")
        return Checkout(self.orders[-1], FormRedirect("http://gateway/checkout", {"order_id": self.orders[-1]}))

    async def fetch_payment(self, payment_id: str) -> GatewayPayment:
        if self.faults:
            raise self.faults.pop(0)
        return self.payments[payment_id]

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> WebhookEvent:
        return WebhookEvent(
            event_key="e",
            kind=WebhookKind.PAYMENT_CAPTURED,
            name="payment.captured",
            order_id=None,
            occurred_at=None,
            payment_id=json.loads(raw)["payment_id"],
        )

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes) -> None: ...

    def verify_return(self, form: Mapping[str, str], *, gateway_order_id: str) -> CheckoutReturn:
        raise AssertionError("not asked here")

    async def list_order_payments(self, order_id: str) -> list[GatewayPayment]:
        return [payment for payment in self.payments.values() if payment.order_id == order_id]


class World:
    """One slice of payments on a real database."""

    def __init__(self, database: Database) -> None:
        self.db = database
        self.gateway = FakeGateway()
        gateways: dict[str, PaymentGateway] = {"razorpay": self.gateway}
        config = PaymentsConfig(public_url="http://api", gateway="razorpay")
        self.deposits = Deposits(database, gateways=gateways, config=config)
        self.jobs = Jobs(database, deposits=self.deposits, gateways=gateways)

    async def start(self, key: str = KEY, amount: Money = FIVE_HUNDRED) -> dict[str, Any]:
        body, _ = await self.deposits.create(user_id=USER, key=key, amount=amount)
        return body

    async def hear(self, payment: GatewayPayment, event: str = "evt_1") -> str:
        body = json.dumps({"payment_id": payment.id}).encode()
        async with self.db.transaction() as conn:
            receipt = await inbox.record(
                conn, vendor="razorpay", source="webhook", event_key=event, headers={}, body=body
            )
        return receipt.id

    async def state(self, deposit: dict[str, Any]) -> str:
        return (await self.deposits.read(deposit["deposit_id"], user_id=USER)).state

    async def wallet(self) -> tuple[str, int]:
        async with self.db.connection() as conn:
            balance = await balances.balance(conn, accounts.wallet(USER, "INR"))
            assert await checks.violations(conn) == []
        return balance.available.wire(), balance.sequence

    async def events(self) -> list[str]:
        async with self.db.connection() as conn:
            return [row["type"] for row in await conn.raw.fetch("SELECT type FROM outbox ORDER BY id")]

    async def row(self, inbox_id: str) -> tuple[str, str | None]:
        async with self.db.connection() as conn:
            row = await conn.raw.fetchrow("SELECT state, outcome FROM inbox WHERE id = $1", inbox_id)
        return row["state"], row["outcome"]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_a_captured_payment_is_credited_once_however_often_it_is_told(world: World) -> None:
    deposit = await world.start()
    payment = world.gateway.pay(deposit["gateway_order_id"])
    told = [await world.hear(payment, f"evt_{number}") for number in range(8)]
    outcomes = await asyncio.gather(*(world.jobs.process_delivery(inbox_id) for inbox_id in told))
    assert sorted(outcomes) == ["already_credited"] * 7 + ["credited"]
    assert await world.wallet() == ("500.00", 1)
    assert await world.state(deposit) == "paid"
    assert await world.events() == ["deposit.started", "deposit.paid", "wallet.credited"]


async def test_a_repeated_event_is_one_row(world: World) -> None:
    payment = world.gateway.pay((await world.start())["gateway_order_id"])
    assert await world.hear(payment) == await world.hear(payment)


async def test_a_delivery_that_is_done_is_not_done_again(world: World) -> None:
    payment = world.gateway.pay((await world.start())["gateway_order_id"])
    inbox_id = await world.hear(payment)
    assert await world.jobs.process_delivery(inbox_id) == "credited"
    assert await world.jobs.process_delivery(inbox_id) is None


async def test_failed_then_captured_is_credited(world: World) -> None:
    deposit = await world.start()
    payment = world.gateway.pay(
        deposit["gateway_order_id"], status=GatewayPaymentStatus.FAILED, error_reason="payment_timed_out"
    )
    assert await world.jobs.process_delivery(await world.hear(payment, "evt_1")) == "failure_noted"
    world.gateway.payments[payment.id] = replace(payment, status=GatewayPaymentStatus.CAPTURED)
    assert await world.jobs.process_delivery(await world.hear(payment, "evt_2")) == "credited"
    assert await world.wallet() == ("500.00", 1)
    assert await world.events() == ["deposit.started", "deposit.failed", "deposit.paid", "wallet.credited"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": Money.parse("499.99", "INR")}, "amount_mismatch"),
        ({"order_id": "order_x"}, "unknown_order"),
        ({"order_id": None}, "unknown_order"),
    ],
)
async def test_money_that_fits_no_deposit_is_parked_and_not_credited(
    world: World, changes: dict[str, Any], reason: str
) -> None:
    deposit = await world.start()
    inbox_id = await world.hear(world.gateway.pay(deposit["gateway_order_id"], **changes))
    assert await world.jobs.process_delivery(inbox_id) == reason
    assert await world.row(inbox_id) == ("parked", reason)
    assert await world.wallet() == ("0.00", 0)


async def test_a_second_payment_of_one_order_is_parked(world: World) -> None:
    deposit = await world.start()
    first, second = (world.gateway.pay(deposit["gateway_order_id"]) for _ in range(2))
    assert await world.jobs.process_delivery(await world.hear(first, "evt_1")) == "credited"
    inbox_id = await world.hear(second, "evt_2")
    assert await world.jobs.process_delivery(inbox_id) == "paid_twice"
    assert await world.row(inbox_id) == ("parked", "paid_twice")
    assert await world.wallet() == ("500.00", 1)


async def test_a_silent_gateway_is_asked_again_and_then_given_up(world: World) -> None:
    payment = world.gateway.pay((await world.start())["gateway_order_id"])
    inbox_id = await world.hear(payment)
    for attempt in range(1, inbox.MAX_ATTEMPTS + 1):
        world.gateway.faults = [ProviderUnavailable("razorpay", "payments.fetch", "timeout")]
        assert await world.jobs.process_delivery(inbox_id) == "ProviderUnavailable"
        assert await world.jobs.process_delivery(inbox_id) is None, "it waits before the next try"
        assert (await world.row(inbox_id))[0] == ("dead" if attempt == inbox.MAX_ATTEMPTS else "received")
        await let_time_pass(world)
    assert await world.wallet() == ("0.00", 0)


async def test_a_bug_is_tried_again_and_not_for_ever(world: World) -> None:
    deposit = await world.start()
    inbox_id = await world.hear(replace(world.gateway.pay(deposit["gateway_order_id"]), id="pay_unheard_of"))
    for _ in range(inbox.MAX_ATTEMPTS):
        assert await world.jobs.process_due_deliveries() == 1
        await let_time_pass(world)
    assert await world.row(inbox_id) == ("dead", "KeyError")
    assert await world.jobs.process_due_deliveries() == 0


async def test_a_worker_that_died_leaves_its_delivery_to_the_sweep(world: World) -> None:
    payment = world.gateway.pay((await world.start())["gateway_order_id"])
    inbox_id = await world.hear(payment)
    assert await inbox.claim(world.db, inbox_id) is not None, "the dead worker's lease"
    assert await world.jobs.process_due_deliveries() == 0
    await let_time_pass(world)
    assert await world.jobs.process_due_deliveries() == 1
    assert await world.wallet() == ("500.00", 1)


async def test_twenty_requests_with_one_key_open_one_deposit(world: World) -> None:
    results = await asyncio.gather(*(world.start() for _ in range(20)), return_exceptions=True)
    bodies = [result for result in results if isinstance(result, dict)]
    assert len(bodies) >= 1
    assert (await world.start())["deposit_id"] == bodies[0]["deposit_id"]
    assert len(world.gateway.orders) == 1
    assert await world.events() == ["deposit.started"]


@pytest.mark.parametrize("fault", [ProviderUnavailable, ProviderOutcomeUnknown])
async def test_a_gateway_that_opens_no_order_leaves_the_key_free_for_another_try(
    world: World, fault: type[Exception]
) -> None:
    world.gateway.faults = [fault("razorpay", "orders.create", "timeout")]
    with pytest.raises(GatewayUnavailable) as refusal:
        await world.start()
    assert refusal.value.extra["retry"] == "same_key"
    deposit = await world.start()
    assert deposit["state"] == "pending"
    async with world.db.connection() as conn:
        assert await conn.raw.fetchval("SELECT count(*) FROM deposits") == 1


async def test_a_deposit_is_its_owners_alone(world: World) -> None:
    deposit = await world.start()
    with pytest.raises(DepositUnknown):
        await world.deposits.read(deposit["deposit_id"], user_id="usr_b")


async def let_time_pass(world: World) -> None:
    async with world.db.transaction() as conn:
        await conn.raw.execute(
            "UPDATE inbox SET leased_until = now() - interval '1 second', next_attempt_at = now() - interval '1 second'"
        )
