"""Old months: out of the database into a file, and back, with the books right all the time."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from contracts.money import Money
from ledger import accounts, archive, balances, chain, checks, journal
from ledger.archive import CannotArchive
from storage.db import Database
from tests.money.test_chain import TABLES, post, verified

CLEARING = accounts.gateway_clearing("razorpay", "INR")
TODAY = datetime.now(UTC).date()


def month_before(day: date) -> date:
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


PRESENT = TODAY.replace(day=1)
LAST = month_before(TODAY)
LATER = (PRESENT + timedelta(days=100)).replace(day=1)


@pytest.fixture
def database(owner_database: Database) -> Database:
    """With its owner's rights: only the owner archives."""
    return owner_database


@pytest.fixture
async def books(database: Database) -> Database:
    """Twenty transactions of last month and five of this one, sealed. Time is made by moving rows, before any is sealed."""
    for n in range(20):
        await post(database, f"pay_{n}")
    days = (datetime.now(UTC).date() - LAST).days
    async with database.transaction() as conn:
        await chain.Q.ensure_months(conn, first=LAST, months=1)
        names = [f"ledger.{table}" for table in TABLES] + [
            row["name"] for row in await conn.raw.fetch(
                "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'ledger.entries'::regclass"
            )
        ]  # fmt: skip
        for name in names:
            await conn.raw.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER")
        for table in ("entries", "transactions", "balances"):
            await conn.raw.execute(
                f"UPDATE ledger.{table} SET recorded_at = recorded_at - $1::interval".replace(
                    "$1::interval", f"interval '{days} days'"
                )
            )
        for name in names:
            await conn.raw.execute(f"ALTER TABLE {name} ENABLE TRIGGER USER")
    for n in range(5):
        await post(database, f"pay_new_{n}")
    await chain.seal(database)
    return database


async def balance(database: Database) -> str:
    async with database.connection() as conn:
        return (await balances.balance(conn, CLEARING)).posted.wire()


async def test_a_month_goes_and_comes_back(books: Database, tmp_path: Path) -> None:
    before = await balance(books)
    gone = await archive.archive(books, LAST, tmp_path, today=LATER)
    assert (gone.entries, before) == (40, "12500.00")
    report = await verified(books)
    assert (report.findings, report.archived, report.transactions) == ([], 20, 25)

    await post(books, "pay_after")
    await chain.seal(books)
    assert await balance(books) == "13000.00"
    async with books.connection() as conn:
        assert await checks.violations(conn) == []
        lines = await balances.entries(conn, CLEARING, before=datetime.max.replace(tzinfo=UTC), limit=100)
    assert [line.sequence for line in lines] == [26, 25, 24, 23, 22, 21]

    assert (await archive.restore(books, LAST, gone.file)).digest == gone.digest
    report = await verified(books)
    assert (report.findings, report.archived, report.transactions) == ([], 0, 26)
    again = await archive.archive(books, LAST, tmp_path, today=LATER)
    assert again.digest == gone.digest


async def test_another_file_is_not_restored(books: Database, tmp_path: Path) -> None:

    gone = await archive.archive(books, LAST, tmp_path, today=LATER)
    text = gzip.decompress(gone.file.read_bytes())
    for forged in (gzip.compress(text.replace(b"500.00", b"501.00")), gone.file.read_bytes()[:-40], b"nothing"):
        gone.file.write_bytes(forged)
        with pytest.raises(CannotArchive, match="file"):
            await archive.restore(books, LAST, gone.file)
    assert (await verified(books)).archived == 20


async def test_what_has_to_stay(books: Database, tmp_path: Path) -> None:
    with pytest.raises(CannotArchive, match="before it stay"):
        await archive.archive(books, LAST, tmp_path, today=TODAY)
    with pytest.raises(CannotArchive, match="older months"):
        await archive.archive(books, PRESENT, tmp_path, today=LATER)
    with pytest.raises(CannotArchive, match="not here"):
        await archive.archive(books, month_before(LAST), tmp_path, today=LATER)
    with pytest.raises(CannotArchive, match="not archived"):
        await archive.restore(books, LAST, tmp_path / "nothing")


async def test_what_is_not_sealed_stays(database: Database, tmp_path: Path) -> None:
    await post(database, "pay_1")
    with pytest.raises(CannotArchive, match="1 transactions of it are not sealed"):
        await archive.archive(database, PRESENT, tmp_path, today=LATER)


async def test_a_month_with_an_open_hold_stays(database: Database, tmp_path: Path) -> None:
    await post(database, "pay_1")
    wallet = accounts.wallet("usr_1", "INR")
    hold = journal.Hold("hold", "hold", "", None, wallet, CLEARING, Money.parse("1.00", "INR"), datetime.now(UTC))
    async with database.transaction() as conn:
        await journal.place(conn, hold)
    await chain.seal(database)
    with pytest.raises(CannotArchive, match="1 holds"):
        await archive.archive(database, PRESENT, tmp_path, today=LATER)


async def test_nobody_says_that_a_month_is_archived_which_is_not(books: Database, tmp_path: Path) -> None:
    digest = "decode(repeat('00', 32), 'hex')"
    await archive.archive(books, LAST, tmp_path, today=LATER)
    connection = await asyncpg.connect(books.dsn)
    try:
        for statement, state in (
            (
                f"INSERT INTO ledger.archived_months (month, entries, digest) VALUES ('{PRESENT}', 10, {digest})",
                "LG014",
            ),
            ("DELETE FROM ledger.archived_months", "LG014"),
            ("UPDATE ledger.archived_months SET entries = 0", "LG001"),
            (f"SELECT ledger.archive_month_v1('{PRESENT}', 9, {digest})", "LG014"),
        ):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await connection.execute(statement)
            assert refused.value.sqlstate == state
    finally:
        await connection.close()
