"""Statements: what was recorded on an account in a period, between an opening and a closing balance.

A statement is read without locks and without a long transaction. Its head comes from one statement of SQL; the entries
between are numbered without a hole, and history is only ever added to, so that whatever is read of them later, page by
page, is either the very entries that the head counted or is found to have a hole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone

from contracts.errors import Refused
from contracts.money import Money
from ledger import balances
from ledger.accounts import Account
from ledger.balances import Balance, Entry
from ledger.pages import TICK
from ledger.reading import NEWEST, ArchivedEntries
from storage.db import Connection, Database

# India has one time zone and no summer time.
INDIA = timezone(timedelta(hours=5, minutes=30), "IST")
INDIA_NAME = "Asia/Kolkata"
PAGE = 1000
# A posting gets its instant before it is committed; later than this after its end, a period does not gain one.
MARGIN = timedelta(minutes=2)


class StatementTooLarge(Refused):
    """More entries than a document of this kind may have."""

    code, title = "ledger.statement_too_large", "Too many entries for such a document"


@dataclass(frozen=True, slots=True)
class Period:
    """Calendar days of India, the first and the last both included."""

    first: date
    last: date

    @property
    def start(self) -> datetime:
        """The first instant in it."""
        return midnight(self.first)

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return midnight(self.last + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Statement:
    """The head of a statement, its amounts on the account's normal side. `closing` is as of `read_at` at the latest.

    Its lines are the entries number `opening.sequence + 1` to `closing.sequence`.
    """

    account: Account
    period: Period
    opening: Balance
    closing: Balance
    read_at: datetime

    @property
    def complete(self) -> bool:
        """Whether the period was over, so that nothing can be added to it."""
        return self.period.end + MARGIN <= self.read_at

    @property
    def count(self) -> int:
        return self.closing.sequence - self.opening.sequence

    @property
    def sequences(self) -> tuple[int, int] | None:
        """The numbers of the first and the last line; None without lines."""
        return (self.opening.sequence + 1, self.closing.sequence) if self.count else None

    @property
    def credits(self) -> Money:
        """All that was posted to the credit side: what came in, where the account's normal side is credit."""
        return _less(self.closing.credits, self.opening.credits)

    @property
    def debits(self) -> Money:
        """All that was posted to the debit side."""
        return _less(self.closing.debits, self.opening.debits)

    def posted_late(self, entry: Entry) -> bool:
        """Whether it happened before the period and was recorded in it."""
        return entry.happened_at < self.period.start


async def statement(conn: Connection, account: Account, period: Period) -> Statement:
    """The head of a statement, at the cost of two descents of an index. Raises ArchivedEntries."""
    read_at = datetime.now(UTC)
    opening, closing = await balances.balances_at(
        conn, account, [(period.start - TICK, NEWEST), (period.end - TICK, NEWEST)]
    )
    return Statement(account, period, opening, closing, read_at)


async def lines(conn: Connection, head: Statement, *, after: datetime | None = None, limit: int) -> list[Entry]:
    """A page of a statement's lines, oldest first: the first, or the one after a line recorded at `after`.

    In the transaction that read the head, nothing can have been archived since.
    """
    after = head.period.start - TICK if after is None else max(after, head.period.start - TICK)
    found = await balances.entries(
        conn, head.account, after=after, before=head.period.end, limit=limit, oldest_first=True
    )
    return [entry for entry in found if entry.sequence <= head.closing.sequence]


async def every_line(db: Database, head: Statement) -> AsyncIterator[list[Entry]]:
    """All lines in pages. No connection is held between two pages, however slowly they are taken.

    Raises ArchivedEntries when a line is missing: nothing but archiving takes one away.
    """
    expected, after = head.opening.sequence + 1, None
    while expected <= head.closing.sequence:
        async with db.connection() as conn:
            page = await lines(conn, head, after=after, limit=PAGE)
        if [entry.sequence for entry in page] != list(range(expected, expected + len(page))) or not page:
            raise ArchivedEntries
        yield page
        expected, after = page[-1].sequence + 1, page[-1].recorded_at


def midnight(day: date) -> datetime:
    """When a day begins in India."""
    return datetime.combine(day, time(), INDIA)


def _less(more: Money, less: Money) -> Money:
    return Money(more.amount - less.amount, more.currency)
