"""The ledger on a real database: what a posting does, and what nobody can do to it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest

from contracts.money import Money
from ledger import accounts, balances, checks, journal, recipes
from ledger.journal import Leg, Posting, credit, debit
from ledger.refusals import InsufficientFunds, KeyReused
from storage.db import Database

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLAYER, HOST = (accounts.wallet(user, "INR") for user in ("usr_a", "usr_b"))
CLEARING = accounts.gateway_clearing("razorpay", "INR")


def rupees(text: str) -> Money:
    return Money.parse(text, "INR")


def deposit(payment: str, amount: str, user: str = "usr_a") -> Posting:
    return recipes.deposit(
        user_id=user,
        gateway="razorpay",
        payment_id=payment,
        deposit_id=f"dep_{payment}",
        amount=rupees(amount),
        happened_at=NOW,
    )


def transfer(key: str, amount: str) -> Posting:
    legs = (debit(PLAYER, rupees(amount)), credit(HOST, rupees(amount)))
    return Posting(key=key, kind="transfer", reference="", happened_at=NOW, legs=legs)


async def post(database: Database, posting: Posting) -> journal.Posted:
    async with database.transaction() as conn:
        return await journal.post(conn, posting)


async def balance(database: Database, account: accounts.Account) -> str:
    async with database.connection() as conn:
        return (await balances.balance(conn, account)).available.wire()


@pytest.fixture(autouse=True)
async def books_are_right(database: Database) -> AsyncIterator[None]:
    yield
    async with database.connection() as conn:
        assert await checks.violations(conn) == []


async def test_a_deposit_debits_the_gateway_and_credits_the_wallet(database: Database) -> None:
    posted = await post(database, deposit("pay_1", "500.00"))
    assert (await balance(database, PLAYER), await balance(database, CLEARING)) == ("500.00", "500.00")
    async with database.connection() as conn:
        (entry,) = await balances.entries(conn, PLAYER, before=datetime.max.replace(tzinfo=UTC), limit=10)
    assert (entry.sequence, entry.amount, entry.balance_after) == (1, rupees("500.00"), rupees("500.00"))
    assert (entry.transaction_id, entry.reference, entry.happened_at) == (posted.transaction_id, "dep_pay_1", NOW)


async def test_an_account_without_entries_has_zero(database: Database) -> None:
    assert await balance(database, PLAYER) == "0.00"


async def test_the_same_key_returns_the_first_transaction(database: Database) -> None:
    first = await post(database, deposit("pay_1", "500.00"))
    again = await post(database, deposit("pay_1", "500.00"))
    assert (again.transaction_id, again.recorded_at, again.replayed) == (first.transaction_id, first.recorded_at, True)
    assert await balance(database, PLAYER) == "500.00"


@pytest.mark.parametrize(
    "other",
    [deposit("pay_1", "500.01"), deposit("pay_1", "500.00", "usr_b"), replace(deposit("pay_1", "500.00"), kind="gift")],
)
async def test_the_key_of_another_posting_is_refused(database: Database, other: Posting) -> None:
    await post(database, deposit("pay_1", "500.00"))
    with pytest.raises(KeyReused):
        await post(database, other)


async def test_fifty_at_once_with_one_key_write_once(database: Database) -> None:
    posted = await asyncio.gather(*(post(database, deposit("pay_1", "500.00")) for _ in range(50)))
    assert len({result.transaction_id for result in posted}) == 1
    assert sum(not result.replayed for result in posted) == 1
    assert await balance(database, PLAYER) == "500.00"


async def test_a_wallet_never_goes_below_zero(database: Database) -> None:
    await post(database, deposit("pay_1", "100.00"))
    results = await asyncio.gather(
        *(post(database, transfer(f"t{number}", "30.00")) for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, InsufficientFunds) for result in results) == 7
    assert (await balance(database, PLAYER), await balance(database, HOST)) == ("10.00", "90.00")


async def test_a_refused_posting_leaves_its_key_free(database: Database) -> None:
    with pytest.raises(InsufficientFunds):
        await post(database, transfer("t1", "1.00"))
    await post(database, deposit("pay_1", "1.00"))
    assert not (await post(database, transfer("t1", "1.00"))).replayed


def test_a_leg_is_above_zero_and_in_its_accounts_currency() -> None:
    with pytest.raises(ValueError, match="above zero"):
        credit(PLAYER, rupees("0.00"))


NO_POSTING = {
    "one leg": (Leg(PLAYER, Decimal(1)),),
    "unbalanced": (Leg(PLAYER, Decimal(2)), Leg(CLEARING, Decimal(-1))),
    "zero": (Leg(PLAYER, Decimal(0)), Leg(CLEARING, Decimal(0))),
    "NaN": (Leg(PLAYER, Decimal("NaN")), Leg(CLEARING, Decimal("NaN"))),
    "Infinity": (Leg(PLAYER, Decimal("Infinity")), Leg(CLEARING, Decimal("-Infinity"))),
    "one account twice": (Leg(PLAYER, Decimal(1)), Leg(PLAYER, Decimal(-1))),
}
UNFIT = {
    "too fine": (Leg(PLAYER, Decimal("0.005")), Leg(CLEARING, Decimal("-0.005"))),
    "too large": (Leg(PLAYER, Decimal(10) ** 15), Leg(CLEARING, -(Decimal(10) ** 15))),
    "unknown currency": (
        Leg(replace(PLAYER, currency="EUR"), Decimal(1)),
        Leg(replace(CLEARING, currency="EUR"), Decimal(-1)),
    ),
    "another kind": (Leg(replace(PLAYER, kind="asset"), Decimal(1)), Leg(CLEARING, Decimal(-1))),
    "another floor": (Leg(replace(PLAYER, floor=None), Decimal(1)), Leg(CLEARING, Decimal(-1))),
}


@pytest.mark.parametrize("legs", NO_POSTING.values(), ids=NO_POSTING)
def test_what_is_no_posting_is_refused_before_it_is_sent(legs: tuple[Leg, ...]) -> None:
    with pytest.raises(ValueError):
        Posting(key="bad", kind="bad", reference="", happened_at=NOW, legs=legs)


@pytest.mark.parametrize("legs", UNFIT.values(), ids=UNFIT)
async def test_the_database_refuses_what_is_no_posting(database: Database, legs: tuple[Leg, ...]) -> None:
    await post(database, deposit("pay_1", "500.00"))
    with pytest.raises(asyncpg.PostgresError):
        await post(database, Posting(key="bad", kind="bad", reference="", happened_at=NOW, legs=legs))
    assert await balance(database, PLAYER) == "500.00"


async def test_a_random_walk_agrees_with_a_model(database: Database) -> None:
    """Eight at once, deposits and transfers, some repeated, some refused; the seed is printed."""
    seed = int(os.environ.get("WALK_SEED", "0")) or random.randrange(2**32)
    print(f"WALK_SEED={seed}")
    dice = random.Random(seed)
    users = [accounts.wallet(f"usr_{number}", "INR") for number in range(5)]
    model = {user.code: Decimal(0) for user in users}

    def step(number: int) -> Posting:
        amount = Money.from_minor(dice.randrange(1, 50_000), "INR")
        giver, taker = dice.sample(users, 2)
        source = CLEARING if dice.random() < 0.4 else giver
        legs = (debit(source, amount), credit(taker, amount))
        return Posting(key=f"w{number}", kind="walk", reference="", happened_at=NOW, legs=legs)

    steps = [step(number) for number in range(200)]
    todo = steps + dice.sample(steps, 60)
    applied: set[str] = set()

    async def worker() -> None:
        while todo:
            posting = todo.pop()
            try:
                posted = await post(database, posting)
            except InsufficientFunds:
                continue
            if posted.replayed:
                assert posting.key in applied
                continue
            applied.add(posting.key)
            for leg in posting.legs:
                if leg.account.code in model:
                    model[leg.account.code] += leg.amount

    await asyncio.gather(*(worker() for _ in range(8)))
    for user in users:
        assert Decimal(await balance(database, user)) == model[user.code] >= 0
    assert len(applied) > 80
