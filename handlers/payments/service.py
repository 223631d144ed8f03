"""The use cases of deposits, one transaction each; no gateway is called inside one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from contracts import ids
from contracts.errors import IdempotencyMismatch, StorageBusy
from contracts.events import Event
from contracts.money import Money
from handlers.payments import rules, store
from handlers.payments.rules import (
    CheckoutUnknown,
    Credit,
    Decision,
    Deposit,
    DepositUnknown,
    GatewayUnavailable,
    NoteFailure,
    Nothing,
    Park,
)
from handlers.payments.store import Q
from integrations import inbox
from integrations.ports import Checkout, CheckoutRequest, GatewayPayment, PaymentGateway, ProviderError
from ledger import accounts, journal, recipes
from storage import idempotency
from storage.db import Connection, Database
from storage.idempotency import Claim, Stored
from streams import outbox

logger = logging.getLogger(__name__)

KEY_TTL = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class PaymentsConfig:
    """`public_url` is where browsers and gateways reach the API; `gateway` takes new deposits."""

    public_url: str
    gateway: str


class Deposits:
    """Deposits from the first click to the credited wallet."""

    def __init__(self, db: Database, *, gateways: Mapping[str, PaymentGateway], config: PaymentsConfig) -> None:
        self._db = db
        self._gateways = gateways
        self._config = config

    async def create(self, *, user_id: str, key: str, amount: Money) -> tuple[dict[str, Any], bool]:
        """Open a deposit and its order; return it as on the wire, and whether this is a stored answer.

        Raises IdempotencyInProgress, IdempotencyMismatch and GatewayUnavailable. Effects: a row of `deposits`, an order
        at the gateway, event `deposit.started`. A repeat after a crash goes on with the deposit that the key opened;
        an order that a lost answer left at the gateway is never shown to anybody, so nobody can pay it.
        """
        held = await idempotency.claim(
            self._db, scope=f"{user_id}:createDeposit", key=key, request=amount.json(), ttl=KEY_TTL
        )
        if isinstance(held, Stored):
            return held.body, True
        try:
            deposit = await self._open(user_id, held, amount)
            checkout = await self._start(deposit) if deposit.state == "created" else None
            return await self._started(held, deposit, checkout), False
        except Exception:
            # Whatever was done is found by the next try under this key, so that it need not wait for the lease.
            with suppress(StorageBusy):
                await idempotency.release(self._db, held)
            raise

    async def _open(self, user_id: str, held: Claim, amount: Money) -> Deposit:
        async with self._db.transaction() as conn:
            await Q.open_deposit(
                conn, id=ids.new("dep"), user_id=user_id, amount=amount.amount, currency=amount.currency,
                gateway=self._config.gateway, key_hash=held.key_hash, checkout_id=ids.new("chk"),
            )  # fmt: skip
            deposit = store.deposit(await Q.deposit_by_key(conn, user_id=user_id, key_hash=held.key_hash))
        assert deposit is not None
        if deposit.amount != amount:  # the key outlives its stored answer
            raise IdempotencyMismatch
        return deposit

    async def _start(self, deposit: Deposit) -> Checkout:
        page = self.checkout_url(deposit)
        request = CheckoutRequest(
            reference=deposit.id,
            amount=deposit.amount,
            description="Matchday wallet",
            return_url=f"{page}/return",
            cancel_url=f"{page}/result",
            notes={"deposit_id": deposit.id},
        )
        try:
            return await self._gateways[deposit.gateway].start(request)
        except ProviderError as fault:
            logger.warning("payments.order_not_opened", extra={"provider": fault.provider, "reason": fault.reason})
            raise GatewayUnavailable from fault

    async def _started(self, held: Claim, deposit: Deposit, checkout: Checkout | None) -> dict[str, Any]:
        async with self._db.transaction() as conn:
            if checkout is not None:
                form = {"url": checkout.redirect.url, "fields": dict(checkout.redirect.fields)}
                started = store.deposit(
                    await Q.start_deposit(
                        conn, id=deposit.id, gateway_order_id=checkout.gateway_order_id, checkout_form=form
                    )
                )
                if started is not None:
                    deposit = started
                    await outbox.append(conn, _event("deposit.started", deposit, status="pending"))
            body = self.render(deposit)
            await idempotency.finish(conn, held, status=201, body=body)
        return body

    async def read(self, deposit_id: str, *, user_id: str) -> Deposit:
        """A deposit for its owner. Raises DepositUnknown."""
        async with self._db.connection() as conn:
            deposit = store.deposit(await Q.deposit_of_user(conn, id=deposit_id, user_id=user_id))
        if deposit is None:
            raise DepositUnknown
        return deposit

    async def by_checkout(self, checkout_id: str) -> Deposit:
        """A deposit for the browser that holds its checkout id. Raises CheckoutUnknown."""
        async with self._db.connection() as conn:
            deposit = store.deposit(await Q.deposit_by_checkout(conn, checkout_id=checkout_id))
        if deposit is None:
            raise CheckoutUnknown
        return deposit

    async def settle(self, inbox_id: str, *, gateway: str, payment: GatewayPayment) -> str:
        """Bring a deposit up to what the gateway says of a payment, and close the delivery that made us ask.

        One transaction, locks in the order deposit, ledger accounts, outbox. Idempotent: the posting is keyed by the
        payment's id. Returns the outcome in a word. Events: `deposit.paid` and `wallet.credited`, or `deposit.failed`.
        """

        async def work(conn: Connection) -> str:
            deposit = store.deposit(
                await Q.lock_deposit_by_order(conn, gateway=gateway, gateway_order_id=payment.order_id)
            )
            outcome = await _carry_out(conn, rules.decide(deposit, payment), payment)
            if outcome.parked:
                logger.error(
                    "payments.parked", extra={"reason": outcome.reason, "gateway": gateway, "inbox_id": inbox_id}
                )
            await inbox.finish(conn, inbox_id, "parked" if outcome.parked else "done", outcome=outcome.reason)
            return outcome.reason

        return await self._db.retrying(work)

    def checkout_url(self, deposit: Deposit) -> str:
        """Where the payer's browser begins."""
        return f"{self._config.public_url}/v1/payments/checkouts/{deposit.checkout_id}"

    def render(self, deposit: Deposit) -> dict[str, Any]:
        """The `Deposit` schema of contracts/payments.yaml."""
        return {
            "deposit_id": deposit.id,
            "state": deposit.state,
            "amount": deposit.amount.json(),
            "gateway": deposit.gateway,
            "gateway_order_id": deposit.gateway_order_id,
            "gateway_payment_id": deposit.gateway_payment_id,
            "checkout_url": self.checkout_url(deposit),
            "ledger_transaction_id": deposit.ledger_transaction_id,
            "last_failure_code": deposit.last_failure_code,
            "created_at": deposit.created_at.isoformat(),
            "paid_at": deposit.paid_at.isoformat() if deposit.paid_at else None,
        }


@dataclass(frozen=True, slots=True)
class _Outcome:
    reason: str
    parked: bool = False


async def _carry_out(conn: Connection, decision: Decision, payment: GatewayPayment) -> _Outcome:
    match decision:
        case Credit(credited):
            await _credit(conn, credited, payment)
            return _Outcome("credited")
        case NoteFailure(open_deposit, code):
            await Q.note_failure(conn, id=open_deposit.id, code=code)
            failed = _event("deposit.failed", open_deposit, status="pending", payment=payment.id, failure=code)
            await outbox.append(conn, failed)
            return _Outcome("failure_noted")
        case Park(reason):
            return _Outcome(reason, parked=True)
        case Nothing(reason):
            return _Outcome(reason)


async def _credit(conn: Connection, deposit: Deposit, payment: GatewayPayment) -> None:
    posted = await journal.post(
        conn,
        recipes.deposit(
            user_id=deposit.user_id,
            gateway=deposit.gateway,
            payment_id=payment.id,
            deposit_id=deposit.id,
            amount=deposit.amount,
            happened_at=payment.created_at,
        ),
    )
    await Q.settle_deposit(
        conn, id=deposit.id, gateway_payment_id=payment.id, ledger_transaction_id=posted.transaction_id
    )
    wallet = accounts.wallet(deposit.user_id, deposit.amount.currency)
    await outbox.append(conn, _event("deposit.paid", deposit, status="paid", payment=payment.id))
    await outbox.append(
        conn,
        Event(
            type="wallet.credited",
            subject=deposit.user_id,
            channels=(f"user:{deposit.user_id}", f"wallet:{deposit.user_id}"),
            data={
                "transaction_id": posted.transaction_id,
                "kind": "deposit",
                "reference": deposit.id,
                "amount": deposit.amount.json(),
                "balance": {"available": posted.line(wallet).available.json()},
            },
        ),
    )


def _event(
    type: str, deposit: Deposit, *, status: str, payment: str | None = None, failure: str | None = None
) -> Event:
    data = {
        "deposit_id": deposit.id,
        "amount": deposit.amount.json(),
        "status": status,
        "gateway": deposit.gateway,
        "gateway_payment_id": payment,
    }
    if failure is not None:
        data["failure_code"] = failure
    channels = (f"user:{deposit.user_id}", f"payment:{deposit.id}")
    return Event(type=type, subject=deposit.id, channels=channels, data=data)
