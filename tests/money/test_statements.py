"""Statements: complete, exact, the same in every form, whatever is posted or archived while they are read."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pypdf import PdfReader

from contracts.money import Money
from ledger import accounts, archive, chain, documents, journal, pdf, statements
from ledger.accounts import Account
from ledger.balances import Balance, Entry
from ledger.reading import NEWEST, ArchivedEntries
from ledger.statements import INDIA, Period, Statement, StatementTooLarge
from storage.db import Database
from tests.money.past import ACCOUNTS, CLEARING, WALLETS, Past, make_past
from tests.money.test_reading import LATER, TICK, TODAY, months_ago

ZERO = Decimal(0)


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("STATEMENT_SEED", "0")) or random.randrange(2**32)
    print(f"STATEMENT_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
async def past(owner_database: Database, dice: random.Random) -> Past:
    return await make_past(owner_database, dice, postings=150, since=months_ago(4))


async def read(database: Database, account: Account, period: Period) -> Statement:
    async with database.connection() as conn:
        return await statements.statement(conn, account, period)


async def collected(database: Database, head: Statement) -> list[Entry]:
    return [line for page in [page async for page in statements.every_line(database, head)] for line in page]


async def as_csv(database: Database, head: Statement) -> str:
    pieces = [piece async for piece in documents.as_csv(head, statements.every_line(database, head))]
    return b"".join(pieces).decode()


def some_period(past: Past, dice: random.Random) -> Period:
    first, last = sorted(past.instant(dice).astimezone(INDIA).date() for _ in range(2))
    return Period(first, last)


def amount(account: Account, value: Decimal) -> Decimal:
    return value if account.credit_normal else -value


async def test_a_statement_of_any_period_is_what_a_count_says(
    database: Database, past: Past, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 7)
    for _ in range(60):
        account, period = dice.choice(ACCOUNTS), some_period(past, dice)
        head = await read(database, account, period)
        rows = [
            row for row in past.of(account) if period.first <= row.recorded_at.astimezone(INDIA).date() <= period.last
        ]
        before = past.sums(account, recorded=period.start - TICK, happened=NEWEST)
        assert head.opening.posted.amount == amount(account, before.credits - before.debits)
        assert head.credits.amount == sum((row.amount for row in rows if row.amount > 0), ZERO)
        assert head.debits.amount == -sum((row.amount for row in rows if row.amount < 0), ZERO)
        assert head.closing.posted.amount - head.opening.posted.amount == amount(
            account, head.credits.amount - head.debits.amount
        )
        lines = await collected(database, head)
        assert [line.sequence for line in lines] == [row.sequence for row in rows]
        assert [line.amount.amount for line in lines] == [amount(account, row.amount) for row in rows]
        assert [head.posted_late(line) for line in lines] == [row.happened_at < period.start for row in rows]
        assert head.sequences == ((rows[0].sequence, rows[-1].sequence) if rows else None)
        assert head.count == len(rows)


async def test_the_file_says_the_same_and_proves_itself(database: Database, past: Past, dice: random.Random) -> None:
    for account in ACCOUNTS:
        head = await read(database, account, some_period(past, dice))
        opening, *lines, closing = list(csv.DictReader(io.StringIO(await as_csv(database, head), newline="")))
        assert (opening["row"], closing["row"]) == ("opening", "closing")
        assert [int(line["sequence"]) for line in lines] == list(
            range(int(opening["sequence"]) + 1, int(closing["sequence"]) + 1)
        )
        debits = sum((Decimal(line["debit"] or 0) for line in lines), ZERO)
        credited = sum((Decimal(line["credit"] or 0) for line in lines), ZERO)
        assert (Decimal(closing["debit"]), Decimal(closing["credit"])) == (debits, credited)
        assert Decimal(closing["balance"]) == Decimal(opening["balance"]) + amount(account, credited - debits)
        if lines:
            assert lines[-1]["balance"] == closing["balance"]


async def test_an_account_that_nobody_opened_has_an_empty_statement(database: Database) -> None:
    head = await read(database, accounts.wallet("usr_nobody", "INR"), Period(date(2026, 1, 1), date(2026, 1, 31)))
    assert (head.count, head.sequences, head.closing.posted.wire(), head.complete) == (0, None, "0.00", True)
    assert await collected(database, head) == []


def test_a_period_is_days_of_india() -> None:
    period = Period(date(2026, 11, 1), date(2026, 11, 30))
    assert period.start == datetime(2026, 10, 31, 18, 30, tzinfo=UTC)
    assert period.end == datetime(2026, 11, 30, 18, 30, tzinfo=UTC)


async def test_today_is_not_complete_and_last_month_is(database: Database, past: Past) -> None:
    today = datetime.now(INDIA).date()
    assert not (await read(database, CLEARING, Period(today - timedelta(days=9), today))).complete
    assert (
        await read(database, CLEARING, Period(months_ago(1).date(), months_ago(0).date() - timedelta(days=1)))
    ).complete


# --- at the same time


async def test_a_statement_is_whole_while_others_post(database: Database) -> None:
    today = datetime.now(INDIA).date()
    period, wallet = Period(today - timedelta(days=1), today + timedelta(days=1)), WALLETS[0]
    one = Money.parse("1.00", "INR")
    done = asyncio.Event()

    async def post(lane: int) -> None:
        for n in range(60):
            legs = (journal.debit(CLEARING, one), journal.credit(wallet, one))
            async with database.transaction() as conn:
                await journal.post(conn, journal.Posting(f"p{lane}_{n}", "deposit", "", None, legs))

    async def look() -> int:
        looks = 0
        while not done.is_set():
            head = await read(database, wallet, period)
            lines = await collected(database, head)
            assert [line.sequence for line in lines] == list(range(1, head.count + 1))
            assert (
                sum((line.amount.amount for line in lines), ZERO) == head.closing.posted.amount == head.credits.amount
            )
            async with database.transaction(readonly=True) as conn:
                head = await statements.statement(conn, wallet, period)
                lines = await statements.lines(conn, head, limit=1000)
            assert [line.sequence for line in lines] == list(range(1, head.count + 1))
            looks += 1
        return looks

    looking = [asyncio.create_task(look()) for _ in range(3)]
    await asyncio.gather(*(post(lane) for lane in range(4)))
    done.set()
    assert sum(await asyncio.gather(*looking)) > 5
    assert (await read(database, wallet, period)).count == 240


async def test_no_connection_is_kept_while_a_reader_is_slow(
    database_dsn: str, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 5)
    narrow = Database(database_dsn, pool_min=1, pool_max=1, acquire_timeout_s=0.5)
    await narrow.connect()
    try:
        head = await read(narrow, CLEARING, Period(months_ago(4).date(), TODAY))
        async for _ in statements.every_line(narrow, head):
            # another one gets the only connection between two pages
            await asyncio.create_task(read(narrow, CLEARING, head.period))
    finally:
        await narrow.disconnect()


async def test_a_month_that_is_archived_meanwhile_breaks_the_reading_off(
    owner_database: Database, past: Past, tmp_path: Path
) -> None:
    await chain.seal(owner_database)
    period = Period(months_ago(4).date() + timedelta(days=1), TODAY)
    head = await read(owner_database, CLEARING, period)
    await archive.archive(owner_database, months_ago(4).date(), tmp_path, today=LATER)
    with pytest.raises(ArchivedEntries):
        await collected(owner_database, head)
    with pytest.raises(ArchivedEntries):
        await read(owner_database, CLEARING, period)
    kept = Period(months_ago(3).date() + timedelta(days=1), TODAY)
    rows = [row for row in past.of(CLEARING) if row.recorded_at >= kept.start]
    assert len(await collected(owner_database, await read(owner_database, CLEARING, kept))) == len(rows)


# --- the forms, from made-up lines


def rupees(text: str) -> Money:
    return Money(Decimal(text), "INR")


def balance(posted: str, sequence: int, credits: str, debits: str, held: str = "0") -> Balance:
    return Balance(
        rupees(posted), rupees(held), rupees("0"), sequence, None, "open", rupees(credits), rupees(debits)
    )  # fmt: skip


def line(
    sequence: int, value: str, after: str, *, reference: str = "", kind: str = "deposit", held: str = "0", day: int = 2
) -> Entry:
    recorded = datetime(2026, 11, day, 6, 30, 1, 500, tzinfo=UTC)
    happened = recorded - timedelta(days=40) if reference == "late" else recorded
    return Entry(
        sequence, f"txn_{sequence}", kind, reference, rupees(value), rupees(held), rupees("0"), rupees(after), happened,
        recorded,
    )  # fmt: skip


HEAD = Statement(
    accounts.wallet("usr_1", "INR"), Period(date(2026, 11, 1), date(2026, 11, 30)),
    balance("100.00", 7, "150.00", "50.00"), balance("1234517.25", 12, "1234600.00", "82.75", held="20.00"),
    datetime(2026, 12, 1, tzinfo=UTC),
)  # fmt: skip
LINES = [
    line(8, "1234450.00", "1234550.00", reference='=HYPERLINK("http://x")'),
    line(9, "-32.75", "1234517.25", reference="two\r\nlines, a comma", kind="transfer", day=3),
    line(10, "0.00", "1234517.25", reference="@SUM(A1)", kind="booking_hold", held="20.00", day=4),
    line(11, "0.50", "1234517.75", reference="प्रिया शर्मा", day=5),
    line(12, "-0.50", "1234517.25", reference="late", kind="transfer", day=6),
]  # fmt: skip
GOLDEN = (
    "row,sequence,recorded_at,happened_at,posted_late,kind,reference,transaction_id,currency,debit,credit,held,pending,"
    "balance\r\n"
    "opening,7,2026-10-31T18:30:00+00:00,,,,,,INR,,,,,100.00\r\n"
    "entry,8,2026-11-02T06:30:01.000500+00:00,2026-11-02T06:30:01.000500+00:00,no,deposit,"
    '"\'=HYPERLINK(""http://x"")",txn_8,INR,,1234450.00,0.00,0.00,1234550.00\r\n'
    "entry,9,2026-11-03T06:30:01.000500+00:00,2026-11-03T06:30:01.000500+00:00,no,transfer,"
    '"two\r\nlines, a comma",txn_9,INR,32.75,,0.00,0.00,1234517.25\r\n'
    "entry,10,2026-11-04T06:30:01.000500+00:00,2026-11-04T06:30:01.000500+00:00,no,booking_hold,"
    "'@SUM(A1),txn_10,INR,,,20.00,0.00,1234517.25\r\n"
    "entry,11,2026-11-05T06:30:01.000500+00:00,2026-11-05T06:30:01.000500+00:00,no,deposit,"
    "प्रिया शर्मा,txn_11,INR,,0.50,0.00,0.00,1234517.75\r\n"
    "entry,12,2026-11-06T06:30:01.000500+00:00,2026-09-27T06:30:01.000500+00:00,yes,transfer,"
    "late,txn_12,INR,0.50,,0.00,0.00,1234517.25\r\n"
    "closing,12,2026-11-30T18:30:00+00:00,,,,,,INR,32.75,1234450.00,,,1234517.25\r\n"
)


async def one_page(lines: list[Entry]) -> AsyncIterator[list[Entry]]:
    yield lines


async def test_a_csv_is_exactly_this() -> None:
    assert b"".join([piece async for piece in documents.as_csv(HEAD, one_page(LINES))]) == GOLDEN.encode()


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "＝1", "－1"])
def test_no_text_is_a_formula(text: str) -> None:
    assert documents.safe(text) == f"'{text}"
    assert documents.safe(f"a{text}") == f"a{text}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0.00", "₹0.00"), ("999.50", "₹999.50"), ("1000.00", "₹1,000.00"), ("1234567.00", "₹12,34,567.00"),
     ("-100000.05", "−₹1,00,000.05"), ("999999999999999.99", "₹99,99,99,99,99,99,999.99")],
)  # fmt: skip
def test_amounts_are_written_as_in_india(value: str, shown: str) -> None:
    assert pdf.money(Decimal(value), "INR") == shown


def texts(document: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(document)).pages]


def test_a_pdf_shows_all_of_it() -> None:
    sealed = [pdf.Sealed(2, 41, bytes(range(32)))]
    (text,) = texts(pdf.render(HEAD, LINES, sealed, holder="शर्मा Smash"))
    for shown in (
        "Smash", "wallet:usr_1", "1 November 2026 to 30 November 2026", "₹100.00", "₹12,34,517.25", "₹12,34,450.00", "₹32.75",
        "5 entries, numbered 8 to 12 without a hole", "Page 1 of 1", "Booking hold", "₹20.00 set aside",
        "2 Nov 2026, 12:00:01", "happened 27 Sep 2026, 12:00", "Closing balance", "शर्मा", bytes(range(32)).hex(),
    ):  # fmt: skip
        assert shown in text, shown


@pytest.mark.parametrize("count", [0, 1, 17, 18, 19, 20, 21, 22, 44, 45, 46, 47, 48, 300])
def test_every_line_is_on_one_page_and_every_page_has_the_heads(count: int) -> None:
    lines = [line(n, "1.00", "1.00", reference=f"ref_{n}_") for n in range(8, 8 + count)]
    shown = texts(pdf.render(HEAD, lines, []))
    assert all(f"Page {number} of {len(shown)}" in text for number, text in enumerate(shown, 1))
    assert all("Recorded (IST)" in text and "Statement of account" in text for text in shown)
    assert [sum(f"ref_{n}_" in text for text in shown) for n in range(8, 8 + count)] == [1] * count
    assert [sum(word in text for text in shown) for word in ("Opening balance", "Closing balance")] == [
        1,
        1 + (len(shown) > 1),
    ]


def test_a_text_that_is_too_long_is_cut() -> None:
    (text,) = texts(pdf.render(HEAD, [line(8, "1.00", "1.00", reference="y" * 200)], []))
    assert "yyy…" in text
    assert "y" * 200 not in text


async def test_a_period_with_too_much_in_it_is_no_pdf(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await read(database, CLEARING, Period(months_ago(4).date(), TODAY))
    monkeypatch.setattr(pdf, "MAX_LINES", head.count)
    assert texts(await pdf.draw(database, head))
    monkeypatch.setattr(pdf, "MAX_LINES", head.count - 1)
    with pytest.raises(StatementTooLarge):
        await pdf.draw(database, head)
