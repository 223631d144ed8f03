"""A statement as CSV: RFC 4180, UTF-8, one row for each entry between an opening and a closing row.

    row      opening, entry or closing; a file without its closing row was cut off
    amounts  plain decimals; debit and credit of the closing row are the totals, its balance the closing balance
    held, pending, balance   on the account's normal side; held and pending say how these two changed

A text that a spreadsheet would take for a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from datetime import UTC, datetime
from decimal import Decimal

from ledger.balances import Balance, Entry
from ledger.statements import Statement

COLUMNS = (
    "row", "sequence", "recorded_at", "happened_at", "posted_late", "kind", "reference", "transaction_id", "currency",
    "debit", "credit", "held", "pending", "balance",
)  # fmt: skip
# What OWASP's page on CSV injection names: spreadsheets begin a formula, or a cell, at these.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
ZERO = Decimal(0)


async def as_csv(head: Statement, pages: AsyncIterable[list[Entry]]) -> AsyncIterator[bytes]:
    """The file in pieces, each as soon as its page of lines is there."""
    yield _rows([COLUMNS, _bound("opening", head, head.opening, head.period.start, "", "")])
    async for page in pages:
        yield _rows(_line(head, entry) for entry in page)
    totals = head.debits.wire(), head.credits.wire()
    yield _rows([_bound("closing", head, head.closing, head.period.end, *totals)])


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def sides(head: Statement, entry: Entry) -> tuple[Decimal, Decimal]:
    """Debit and credit of a line, one of them or both zero."""
    credit = entry.amount.amount if head.account.credit_normal else -entry.amount.amount
    return max(-credit, ZERO), max(credit, ZERO)


def _line(head: Statement, entry: Entry) -> tuple[object, ...]:
    debit, credit = sides(head, entry)
    return (
        "entry", entry.sequence, _instant(entry.recorded_at), _instant(entry.happened_at),
        "yes" if head.posted_late(entry) else "no", entry.kind, safe(entry.reference), entry.transaction_id,
        head.account.currency, f"{debit:f}" if debit else "", f"{credit:f}" if credit else "",
        entry.held.wire(), entry.pending.wire(), entry.balance_after.wire(),
    )  # fmt: skip


def _bound(row: str, head: Statement, balance: Balance, at: datetime, debit: str, credit: str) -> tuple[object, ...]:
    return (
        row, balance.sequence, _instant(at), "", "", "", "", "", head.account.currency, debit, credit, "", "",
        balance.posted.wire(),
    )  # fmt: skip


def _rows(rows: Iterable[tuple[object, ...]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
