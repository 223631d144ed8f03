"""What a posting and a page of a statement cost in a short and in a long history:
`python -m tests.bench.growth_bench [--entries N] [--months N] [--rounds N] [--scale N] [--shared-buffers SIZE]`.

Two databases on one server hold as many wallets, one with a hundred thousand entries of a year, the other with N of as
long or longer. Both are measured round by round, one after the other; a figure is the median of the ratios of the rounds,
after one that only warms caches. The SQL function is timed inside the server, the rest in Python as the API calls it.
Nobody waits for the disk, whose flush costs both the same and would hide what grows. Afterwards both books are audited.
Ten million entries (`--entries 10000000`) take some minutes to write.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg

from contracts import ids
from contracts.errors import AppError
from contracts.money import Money
from ledger import balances, checks, journal, pages, recipes, statements
from ledger.accounts import Account
from ledger.journal import Posting
from ledger.statements import INDIA, Period
from storage.db import Database
from storage.embedded import EmbeddedPostgres
from storage.migrations import migrate
from tests.bench import growth_history
from tests.bench.growth_history import History

HERE = Path(__file__).parent
SHORT, MONTHS = 100_000, 12
WALLETS = 500
BATCH = 50
PAGE = 50
REACH = 1.2
AUDIT_S = 3600


@dataclass
class Side:
    """One database: seconds for each call of each way, round by round."""

    entries: int
    dsn: str
    history: History
    database: Database
    server: psycopg.Connection
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def wallet(self) -> Account:
        return random.choice(self.history.wallets)

    def instant(self) -> datetime:
        """Somewhere in the middle of the history, a page of entries away from both ends at least."""
        return self.history.begin + (self.history.end - self.history.begin) * random.uniform(0.4, 0.55)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=2_000_000)
    parser.add_argument("--months", type=int, default=MONTHS, help="of the long history")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=int, default=100, help="calls in a round, percent")
    parser.add_argument("--shared-buffers", default="128MB", help="of PostgreSQL, whose default is 128MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = {"max_wal_size": "16GB", "shared_buffers": options.shared_buffers}
        server = EmbeddedPostgres(folder / "data", settings=settings)
        server.start()
        try:
            asyncio.run(compare(server, options))
        finally:
            server.stop()


async def compare(server: EmbeddedPostgres, options: argparse.Namespace) -> None:
    sides = [
        await prepare(server, "short", SHORT, MONTHS),
        await prepare(server, "long", options.entries, options.months),
    ]
    print_sizes(sides)
    sides[0].server.execute("CHECKPOINT")
    for number in range(options.rounds + 1):
        for way, (calls, measure) in WAYS.items():
            for side in sides if number % 2 else reversed(sides):
                spent = await measure(side, max(1, calls * options.scale // 100))
                if number:
                    side.seconds.setdefault(way, []).append(spent)
    print_ratios(sides)
    for side in sides:
        await audit(side)
        side.server.close()
        await side.database.disconnect()


async def prepare(server: EmbeddedPostgres, name: str, entries: int, months: int) -> Side:
    """A database with a history."""
    server.ensure_database(name)
    dsn = server.dsn(name)
    migrate(dsn)
    began = time.perf_counter()
    history = growth_history.write(dsn, wallets=WALLETS, entries=entries, months=months)
    print(f"{entries:,} entries of {months} months written in {time.perf_counter() - began:.0f} s", flush=True)
    connection = psycopg.connect(dsn, autocommit=True)
    connection.execute((HERE / "growth_bench.sql").read_text("utf-8"))
    connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = Database(dsn, pool_max=1, statement_timeout_s=AUDIT_S)
    await database.connect()
    await history.replay(database)
    return Side(entries, dsn, history, database, connection)


async def in_sql(side: Side, calls: int, size: int) -> float:
    row = side.server.execute("CALL bench.post(%s, %s, %s)", (calls, size, WALLETS)).fetchone()
    assert row is not None
    return float(row[0]) / calls


async def in_python(side: Side, calls: int, size: int) -> float:
    """Through the journal, BEGIN and COMMIT included."""
    sets = [[(_transfer(side),) for _ in range(size)] for _ in range(calls)]
    began = time.perf_counter()
    for one in sets:
        async with side.database.transaction() as conn:
            found = await journal.post_many(conn, one)
        assert not any(isinstance(result, AppError) for result in found)
    return (time.perf_counter() - began) / calls


def _transfer(side: Side) -> Posting:
    sender, receiver = (wallet.code.removeprefix("wallet:") for wallet in random.sample(side.history.wallets, 2))
    amount = Money(Decimal("1.50"), "INR")
    return recipes.transfer(sender=sender, receiver=receiver, request_key=ids.new("req"), amount=amount, note=None)


async def newest_page(side: Side, calls: int) -> float:
    async def read() -> int:
        return len((await pages.older(conn, side.wallet(), than=None, limit=PAGE)).items)

    async with side.database.connection() as conn:
        return await _reading(read, calls, PAGE)


async def middle_page(side: Side, calls: int) -> float:
    async def read() -> int:
        return len((await pages.older(conn, side.wallet(), than=side.instant(), limit=PAGE)).items)

    async with side.database.connection() as conn:
        return await _reading(read, calls, PAGE)


async def statement(side: Side, calls: int) -> float:
    """Head and first lines of what was recorded from a day in the middle until the end."""

    async def read() -> int:
        period = Period(side.instant().astimezone(INDIA).date(), side.history.end.astimezone(INDIA).date())
        head = await statements.statement(conn, side.wallet(), period)
        return len(await statements.lines(conn, head, limit=PAGE))

    async with side.database.connection() as conn:
        return await _reading(read, calls, PAGE)


async def balance_then(side: Side, calls: int) -> float:
    async def read() -> int:
        found = await balances.balance_at(conn, side.wallet(), recorded=side.instant())
        return int(found.sequence > 0)

    async with side.database.connection() as conn:
        return await _reading(read, calls, 1)


async def _reading(read: Callable[[], Awaitable[int]], calls: int, expected: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        assert await read() == expected
    return (time.perf_counter() - began) / calls


# name: calls in a round, how to make them
WAYS: dict[str, tuple[int, Callable[[Side, int], Awaitable[float]]]] = {
    "`ledger.post_v1`, one transfer": (400, lambda side, calls: in_sql(side, calls, 1)),
    f"`ledger.post_v1`, {BATCH} transfers": (20, lambda side, calls: in_sql(side, calls, BATCH)),
    "`journal.post_many`, one transfer": (300, lambda side, calls: in_python(side, calls, 1)),
    f"`journal.post_many`, {BATCH} transfers": (20, lambda side, calls: in_python(side, calls, BATCH)),
    f"newest page of {PAGE} entries": (300, newest_page),
    f"page of {PAGE} entries in the middle of the history": (300, middle_page),
    f"statement from there on, {PAGE} lines": (300, statement),
    "balance at an instant there": (500, balance_then),
}


def print_ratios(sides: list[Side]) -> None:
    short, long = sides
    print(f"\n| µs for a call | {SHORT:,} entries | {long.entries:,} | ratio (median, min–max of rounds) | to reach |")
    print("|---|---:|---:|---:|---:|")
    for way in WAYS:
        ratios = [more / less for more, less in zip(long.seconds[way], short.seconds[way], strict=True)]
        figures = " | ".join(f"{statistics.median(side.seconds[way]) * 1e6:,.0f}" for side in sides)
        print(
            f"| {way} | {figures} | {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | ≤ {REACH} |"
        )


def print_sizes(sides: list[Side]) -> None:
    print("\n| bytes on disk for a transaction | entries in all | rows | indexes |\n|---|---:|---:|---:|")
    for side in sides:
        found = side.server.execute("SELECT relation, rows, indexes FROM bench.sizes").fetchall()
        every = ("all", sum(row[1] for row in found), sum(row[2] for row in found))
        for relation, rows, indexes in [*found, every]:
            count = side.history.transactions
            print(f"| {relation} | {side.entries:,} | {rows / count:,.0f} | {indexes / count:,.0f} |")


async def audit(side: Side) -> None:
    """Raises RuntimeError when the books are wrong."""
    began = time.perf_counter()
    async with side.database.transaction(isolation="repeatable_read", readonly=True) as conn:
        await conn.raw.execute("SET LOCAL work_mem = '256MB'")
        found = await checks.violations(conn)
    if found:
        raise RuntimeError(f"the books are wrong: {found}")
    print(f"\nThe audit of {side.entries:,} entries found nothing in {time.perf_counter() - began:.0f} s.", flush=True)


if __name__ == "__main__":
    main()
