"""What runs by the clock: due holds are released once, months are made ahead, faults are told."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.errors import AppError
from contracts.money import Money
from ledger import accounts, balances, chain, checks, journal
from ledger.journal import Hold, Resolution
from ledger.sweeps import Sweeps
from storage import sql
from storage.db import Database
from tests.money.test_chain import post, tamper

WALLET = accounts.wallet("usr_1", "INR")
CLEARING = accounts.gateway_clearing("razorpay", "INR")


@pytest.fixture
def sweeps(database: Database, tmp_path: Path) -> Sweeps:
    return Sweeps(database, anchor_key=None, anchor_file=tmp_path / "anchors")


async def place(database: Database, key: str, *, due_in_s: int) -> str:
    expires_at = datetime.now(UTC) + timedelta(seconds=due_in_s)
    hold = Hold(key, "hold", "", None, WALLET, CLEARING, Money.parse("1.00", "INR"), expires_at)
    async with database.transaction() as conn:
        return "hld" + (await journal.place(conn, hold)).transaction_id[3:]


async def held(database: Database) -> str:
    async with database.connection() as conn:
        assert await checks.violations(conn) == []
        return (await balances.balance(conn, WALLET)).held.wire()


async def test_due_holds_are_released_and_others_stay(database: Database, sweeps: Sweeps) -> None:
    await post(database, "pay_1")
    for n in range(120):
        await place(database, f"due_{n}", due_in_s=-60)
    await place(database, "later", due_in_s=3600)
    assert await sweeps.expire_holds() == 120
    assert await held(database) == "1.00"
    assert await sweeps.expire_holds() == 0


async def test_sweeps_and_captures_at_once_resolve_every_hold_once(database: Database, sweeps: Sweeps) -> None:
    await post(database, "pay_1")
    holds = [await place(database, f"due_{n}", due_in_s=-60) for n in range(60)]

    async def capture(hold: str) -> int:
        resolution = Resolution(f"capture:{hold}", "capture", "", None, hold, captured=Money.parse("1.00", "INR"))
        try:
            async with database.transaction() as conn:
                await journal.resolve(conn, resolution)
        except AppError:
            return 0
        return 1

    async def captures() -> int:
        return sum([await capture(hold) for hold in reversed(holds)])

    done = await asyncio.gather(sweeps.expire_holds(), captures(), sweeps.expire_holds(), captures())
    await sweeps.expire_holds()
    assert await held(database) == "0.00"
    async with database.connection() as conn:
        settled = await conn.raw.fetchrow(
            "SELECT sum(captured) AS captured, sum(released) AS released FROM ledger.holds"
        )
    assert settled["captured"] + settled["released"] == 60
    assert done[1] + done[3] >= settled["captured"]


async def test_months_are_made_ahead_once(sweeps: Sweeps) -> None:
    assert (await sweeps.ensure_months(), await sweeps.ensure_months()) == (3, 0)


async def test_the_nightly_check_tells_what_is_wrong(
    database: Database, owner_database: Database, sweeps: Sweeps, caplog: pytest.LogCaptureFixture
) -> None:
    await post(database, "pay_1")
    assert await sweeps.check() == []
    await tamper(owner_database, "UPDATE ledger.balances SET credits = credits + 1")
    with caplog.at_level(logging.ERROR):
        assert len(await sweeps.check()) > 0
    assert {record.message for record in caplog.records} == {"ledger.violation"}


async def test_the_database_accepts_every_query(database: Database) -> None:
    async with database.connection() as conn:
        assert await sql.refused(conn, chain.Q) == []


async def test_without_a_key_nothing_is_anchored(database: Database, sweeps: Sweeps, tmp_path: Path) -> None:
    await post(database, "pay_1")
    assert (await sweeps.seal(), await sweeps.anchor(), (tmp_path / "anchors").exists()) == (1, False, False)
