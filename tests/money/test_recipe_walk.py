"""A random walk through bookings, settlements, cancellations and payouts, beside a model; the seed is printed."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from ledger import accounts, checks, recipes, split
from ledger.accounts import Account
from ledger.refusals import InsufficientFunds
from storage.db import Database
from tests.money.test_recipes import (
    CLEARING,
    HOST,
    LATER,
    NOW,
    TERMS,
    WALLET,
    Fact,
    cancelled,
    confirmed,
    held,
    paid,
    rupees,
    settled,
    standing,
    tell,
)


class Walk:
    """A random walk beside a model that knows one number for each account and what each booking went through."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.model: dict[Account, Decimal] = {}
        self.bookings: dict[str, str] = {}
        self.step = 0

    def money(self) -> str:
        return f"{self.random.randint(1, 60000) / Decimal(100):.2f}"

    async def attempt(self, moves: dict[Account, Decimal], *facts: Fact) -> bool:
        """Tell facts of which the model says what they move; they must happen exactly when no floor forbids it."""
        after = {account: self.model.get(account, Decimal(0)) + amount for account, amount in moves.items()}
        allowed = all(account.floor is None or amount >= account.floor for account, amount in after.items())
        if not allowed:
            with pytest.raises(InsufficientFunds):
                await tell(self.database, *facts)
            return False
        await tell(self.database, *facts)
        self.model |= after
        return True

    async def deposit(self) -> None:
        amount = self.money()
        moves = {WALLET: Decimal(amount), CLEARING: Decimal(amount)}
        await self.attempt(moves, paid(f"pay_{self.step}", amount))

    async def book(self) -> None:
        booking, amount = f"bkg_{self.step}", self.money()
        escrow = accounts.escrow(booking, "INR")
        if await self.attempt({WALLET: Decimal(0) - Decimal(amount), escrow: Decimal(0)}, *held(booking, amount)):
            await tell(self.database, *confirmed(booking, amount))
            self.model[escrow] = Decimal(amount)
            self.bookings[booking] = amount

    def shares(self, amount: str) -> dict[Account, Decimal]:
        made = split.settle(rupees(amount), TERMS)
        heads = {accounts.gst_payable(head, "INR"): tax.amount for head, tax in made.gst.items()}
        own = {accounts.platform_fee("INR"): made.fee.amount, accounts.tds_payable("INR"): made.tds.amount}
        return {HOST: made.net.amount, **heads, **own}

    async def settle(self) -> None:
        booking, amount = self.random.choice(list(self.bookings.items()))
        if self.random.random() < 0.2:
            amount = self.money()  # somebody has the wrong number
        escrow = accounts.escrow(booking, "INR")
        if self.model[escrow] > Decimal(amount) or self.model[escrow] == 0:
            return  # a part would be settled, or the key would be told again
        await self.attempt({escrow: -Decimal(amount), **self.shares(amount)}, *settled(**{booking: amount}))

    async def cancel(self) -> None:
        booking, amount = self.random.choice(list(self.bookings.items()))
        escrow = accounts.escrow(booking, "INR")
        if self.model[escrow] == 0:
            return
        kept = split.share(rupees(amount), self.random.choice([0, 1000, 2500, 10_000]))
        refunded = split.less(rupees(amount), kept)
        moves = {escrow: -Decimal(amount), WALLET: refunded.amount, **self.shares(kept.wire())}
        await self.attempt(moves, cancelled(booking, refunded.wire(), kept.wire()))

    async def pay_out(self) -> None:
        amount, payout_id = self.money(), f"pyo_{self.step}"
        facts = {"payout_id": payout_id, "amount": rupees(amount), "happened_at": NOW}
        hold = recipes.payout_held(**facts, source=HOST, rail="razorpayx", expires_at=LATER)  # type: ignore[arg-type]
        if not await self.attempt({HOST: -Decimal(amount)}, hold):
            return
        end = self.random.choice(["cancelled", "failed", "settled"])
        if end == "cancelled":
            await tell(self.database, recipes.payout_cancelled(**facts))  # type: ignore[arg-type]
        else:
            await tell(self.database, recipes.payout_sent(**facts))  # type: ignore[arg-type]
        if end == "failed":
            await tell(self.database, recipes.payout_failed(**facts, source=HOST, rail="razorpayx"))  # type: ignore[arg-type]
        if end != "settled":
            self.model[HOST] += Decimal(amount)


async def test_a_walk_through_all_of_it_agrees_with_the_model(database: Database) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    walk = Walk(database, seed)
    await walk.deposit()
    for walk.step in range(1, 200):
        steps = [walk.deposit, walk.book, walk.book, walk.pay_out]
        steps += [walk.settle, walk.cancel] if walk.bookings else []
        await walk.random.choice(steps)()
        if walk.step % 20 == 0:
            expected = {account: f"{amount:.2f}" for account, amount in walk.model.items()}
            assert dict(zip(expected, await standing(database, *expected), strict=True)) == expected
            async with database.connection() as conn:
                assert await checks.violations(conn) == []
