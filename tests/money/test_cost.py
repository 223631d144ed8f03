"""What a posting reads does not grow with the history: every look-up goes by a key, whatever a session planned when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from contracts.money import Money
from ledger import accounts, journal, sweeps
from ledger.journal import Hold, Leg, Posting, Resolution, credit, debit
from storage.db import Connection, Database

A, B = (accounts.wallet(f"usr_{name}", "INR") for name in "ab")
BANK = accounts.gateway_clearing("razorpay", "INR")
HISTORY = 400
LATER = datetime.now(UTC) + timedelta(days=30)


def moved(key: str, source: accounts.Account, target: accounts.Account, amount: str = "1.00") -> Posting:
    rupees = Money.parse(amount, "INR")
    return Posting(key, "seed", "", None, (debit(source, rupees), credit(target, rupees)))


async def one(conn: Connection, n: int) -> None:
    await journal.post(conn, moved(f"one{n}", BANK, A))


async def many(conn: Connection, n: int) -> None:
    await journal.post_many(conn, [(moved(f"many{n}-{i}", BANK, A),) for i in range(10)])


async def repeated(conn: Connection, n: int) -> None:
    assert (await journal.post(conn, moved("first", BANK, A, "1000.00"))).replayed


async def refused(conn: Connection, n: int) -> None:
    (result,) = await journal.post_many(conn, [(moved(f"refused{n}", A, B, "900000.00"),)])
    assert isinstance(result, journal.refusals.InsufficientFunds)


async def as_much_as_there_is(conn: Connection, n: int) -> None:
    legs = (Leg(A, Decimal(-1)), Leg(B, Decimal(1)))
    await journal.post(conn, Posting(f"up_to{n}", "seed", "", None, legs, up_to=True))


async def held_and_taken(conn: Connection, n: int) -> None:
    held = await journal.place(conn, Hold(f"hold{n}", "hold", "", None, A, B, Money.parse("2.00", "INR"), LATER))
    one = Money.parse("1.00", "INR")
    hold_id = f"hld_{held.transaction_id[4:]}"
    await journal.resolve(conn, Resolution(f"take{n}", "take", "", None, hold_id, captured=one, released=one))


async def reversed_(conn: Connection, n: int) -> None:
    posted = await journal.post(conn, moved(f"wrong{n}", BANK, A))
    await journal.reverse(conn, posted.transaction_id, key=f"undo{n}", reference="")


# What is done, and how many index entries it may read for each of ten times.
WORK = {
    "one": (one, 40), "many": (many, 250), "repeated": (repeated, 25), "refused": (refused, 15),
    "as much as there is": (as_much_as_there_is, 40), "held and taken": (held_and_taken, 150),
    "reversed": (reversed_, 120),
}  # fmt: skip
READ = """
    SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'ledger') AS scanned,
           (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'ledger') AS looked_up"""


@pytest.mark.parametrize(("work", "most"), WORK.values(), ids=WORK)
async def test_a_posting_reads_as_much_after_a_long_history(
    owner_dsn: str, work: Callable[[Connection, int], Awaitable[None]], most: int
) -> None:
    database = Database(owner_dsn, pool_min=1, pool_max=1)  # one session, which planned everything on empty tables
    await database.connect()
    try:
        async with database.transaction() as conn:
            await conn.raw.execute("ANALYZE")
            await journal.post(conn, moved("first", BANK, A, "1000.00"))
            await sweeps.audit(conn)
            await work(conn, -1)
            for n in range(HISTORY // 50):
                await journal.post_many(conn, [(moved(f"h{n}-{i}", BANK, A),) for i in range(50)])

        async def read() -> tuple[int, int]:
            async with database.connection() as conn:
                await conn.raw.execute("SELECT pg_stat_force_next_flush()")
                row = await conn.raw.fetchrow(READ)
            return int(row["scanned"]), int(row["looked_up"])

        before = await read()
        for n in range(10):
            async with database.transaction() as conn:
                await work(conn, n)
        after = await read()
    finally:
        await database.disconnect()
    scanned, looked_up = after[0] - before[0], after[1] - before[1]
    print(f"{scanned} rows scanned, {looked_up} index entries read")
    assert scanned < HISTORY, "the history was scanned"  # small tables may be: accounts, holds
    assert looked_up <= 10 * most
