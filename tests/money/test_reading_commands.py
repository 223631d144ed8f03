"""`matchday ledger` for who asks what the books say, on a real database."""

from __future__ import annotations

import asyncio
import csv
import io
import os
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pypdf import PdfReader

from contracts.money import Money
from ledger import accounts, chain, journal
from ledger.statements import INDIA
from matchday import cli
from matchday.home import Home
from storage.db import Database
from tests.money.test_chain import post, tamper

WALLET = accounts.wallet("usr_1", "INR")
CLEARING = accounts.gateway_clearing("razorpay", "INR")


@pytest.fixture
async def books(owner_database: Database) -> Database:
    """A deposit of ₹500.00, turned round; another, of which ₹20.50 is on hold."""
    first = await post(owner_database, "pay_1")
    await post(owner_database, "pay_1_1")
    async with owner_database.transaction() as conn:
        await journal.reverse(conn, first.transaction_id, key="turned", reference="mistake")
        expires_at = datetime.now(UTC) + timedelta(days=1)
        amount = Money.parse("20.50", "INR")
        await journal.place(conn, journal.Hold("h", "hold", "bkg_1", None, WALLET, CLEARING, amount, expires_at))
    await chain.seal(owner_database)
    return owner_database


Command = Callable[..., Awaitable[tuple[object, str]]]


@pytest.fixture
def command(books: Database, home: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in a thread; how it ended, and what it said. Its own process would take longer to start than to run."""
    home.mkdir()
    environment = {
        **Home(home).environment(os.environ),
        "DATABASE_URL": books.dsn,
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(arguments: tuple[str, ...]) -> tuple[object, str]:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            try:
                cli.main(["ledger", *arguments])
            except SystemExit as ended:
                # Python itself writes the text that a program exits with, and makes it 1.
                return (1, out.getvalue() + ended.code) if isinstance(ended.code, str) else (ended.code, out.getvalue())
        return 0, out.getvalue()

    async def in_thread(*arguments: str) -> tuple[object, str]:
        return await asyncio.to_thread(run, arguments)

    return in_thread


async def test_the_commands_say_what_the_books_say(command: Command, books: Database, tmp_path: Path) -> None:

    async def said(*arguments: str) -> list[list[str]]:
        code, text = await command(*arguments)
        assert code == 0, text
        return [line.split() for line in text.splitlines()]

    assert await said("balance", "wallet:usr_1") == [
        ["posted", "₹500.00"], ["held", "₹20.50"], ["available", "₹479.50"], ["pending", "₹0.00"], ["entries", "4"],
        ["status", "open"],
    ]  # fmt: skip
    then = await said("balance", "wallet:usr_1", "--recorded", "2020-01-01T00:00:00+05:30")
    assert then[0] == ["posted", "₹0.00"]
    assert await said("trial-balance") == [
        ["gateway_clearing:razorpay", "INR", "500.00", "0.00"], ["wallet:usr_1", "INR", "0.00", "500.00"],
        ["total", "INR", "500.00", "500.00"],
    ]  # fmt: skip
    assert await said("tree") == [
        ["all", "accounts", "several", "2", "INR", "0.00"], ["gateway_clearing", "asset", "1", "INR", "500.00"],
        ["wallet", "liability", "1", "INR", "500.00"],
    ]  # fmt: skip
    assert [line[0] for line in await said("tree", "wallet")] == ["wallet", "usr_1"]

    original = await said("find", "--key", "deposit:razorpay:pay_1")
    reversal = await said("find", "--reference", "mistake")
    assert ["reversed", "by", reversal[0][0]] in original
    assert ["reverses", original[0][0]] in reversal
    assert await said("find", "--id", original[0][0]) == original
    assert await said("find", "--metadata", "gateway=razorpay", "payment_id=pay_1") == original
    assert any("left 20.50" in " ".join(line) for line in await said("find", "--reference", "bkg_1"))
    assert await said("find", "--reference", "nothing") == []

    today = str(datetime.now(INDIA).date())
    period = ("statement", "wallet:usr_1", "--from", today, "--to", today, "--out")
    assert (await said(*period, str(tmp_path / "s.csv")))[0][0] == "4"
    with (tmp_path / "s.csv").open(newline="") as file:
        assert [row["balance"] for row in csv.DictReader(file)] == [
            "0.00", "500.00", "1000.00", "500.00", "500.00", "500.00",
        ]  # fmt: skip
    await said(*period, str(tmp_path / "s.pdf"))
    assert "Balance so far" in PdfReader(tmp_path / "s.pdf").pages[0].extract_text()


async def test_what_cannot_be_is_refused_in_a_sentence(command: Command, books: Database, tmp_path: Path) -> None:
    days = ("--from", "2026-11-02", "--to", "2026-11-01")
    for arguments, code, text in (
        (("statement", "wallet:usr_1", *days, "--out", str(tmp_path / "s.csv")), 1, "the first day is after the last"),
        (("statement", "wallet:usr_1", *days[:2], "--to", "2026-11-30", "--out", "s.txt"), 1, "is a .csv or a .pdf"),
        (("balance", "nothing:usr_1"), 1, "no such account in the chart"),
        (("balance", "wallet:usr_1", "--recorded", "yesterday"), 2, "written with its offset"),
        (("find", "--id", "bkg_1"), 1, "begins with txn_"),
        (("find", "--metadata", "gateway"), 2, "NAME=VALUE"),
    ):
        ended, said = await command(*arguments)
        assert ended == code, said
        assert text in said
        assert "Traceback" not in said
    await tamper(books, "UPDATE ledger.balances SET credits = credits + 1 WHERE credit_normal")
    ended, said = await command("trial-balance")
    assert (ended, said.splitlines()[-1]) == (1, "matchday: the two sides differ")
