"""A statement as PDF: A4, every line, the table's head on each page, and what proves that nothing is missing.

    page 1   account, period, opening balance, totals, closing balance
    table    number, when it was recorded (India), what, debit, credit, balance on the account's normal side
    end      sequence range, heads of the hash chain (ledger/chain.py) when the document was made

Drawn in a thread, at about 5000 lines a second. The fonts are subsets of Noto Sans (fonts/OFL.txt): Latin, ₹, and
Devanagari, which is shaped. Other scripts show as boxes; the CSV has every text whole.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING

from contracts.money import Money
from ledger import chain, statements
from ledger.balances import Entry
from ledger.documents import sides
from ledger.statements import INDIA, Statement, StatementTooLarge
from storage.db import Database

if TYPE_CHECKING:
    from fpdf import FPDF

MAX_LINES = 5000
SIGNS = {"INR": "₹"}

LEFT, RIGHT, TOP, BOTTOM = 15.0, 195.0, 15.0, 276.0  # mm
FIRST_ROW, NEXT_ROW, ROW, BAND = 86.0, 35.0, 9.0, 7.0
CLOSING = 2 * ROW
PAD = 1.5
LINE, BASELINE = 0.45, 0.331  # of a font's size in points, in mm: how high a line is, how far down its letters stand
# right edges of the columns; a description begins where the one before ends
NUMBER, WHEN, WHAT, DEBIT, CREDIT, BALANCE = 27.0, 61.0, 118.0, 143.0, 168.0, 195.0 - PAD
INK, GREY, ACCENT, PALE, RULE, LATE = (
    (28, 33, 40), (110, 118, 128), (15, 94, 80), (241, 246, 244), (214, 220, 224), (176, 92, 20),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sealed:
    """The newest block of a lane of the hash chain."""

    lane: int
    number: int
    hash: bytes


async def draw(db: Database, head: Statement, *, holder: str | None = None) -> bytes:
    """The document, with the name of whom the account belongs to. Raises StatementTooLarge, ArchivedEntries."""
    if head.count > MAX_LINES:
        raise StatementTooLarge(f"{head.count} entries; a PDF has {MAX_LINES} at most, CSV and JSON have no limit")
    lines = [line async for page in statements.every_line(db, head) for line in page]
    async with db.connection() as conn:
        sealed = [Sealed(row["lane"], row["number"], row["hash"]) for row in await chain.Q.heads(conn)]
    return await asyncio.to_thread(render, head, lines, sealed, holder=holder)


def render(head: Statement, lines: Sequence[Entry], sealed: Sequence[Sealed], *, holder: str | None = None) -> bytes:
    """Draw the whole document; takes as long as it takes, on the processor."""
    sheet = _sheet(head)
    pages = list(_pages(lines))
    for number, page in enumerate(pages, 1):
        sheet.add_page()
        _page_head(sheet)
        if number == 1:
            _about(sheet, head, holder)
            _summary(sheet, head)
        y = FIRST_ROW if number == 1 else NEXT_ROW
        _table_head(sheet, y - BAND - PAD - (BAND if number == 1 else 0))
        if number == 1:
            _bound(sheet, "Opening balance", (None, None, head.opening.posted), y - BAND - PAD)
        for line in page:
            _row(sheet, head, line, y)
            y += ROW
        if number == len(pages):
            _closing(sheet, head, sealed, y)
        _page_foot(sheet, head, number, len(pages))
    return bytes(sheet.output())


def money(amount: Decimal, currency: str) -> str:
    """An amount as people in India write it: ₹12,34,567.00."""
    whole, _, fraction = f"{abs(amount):f}".partition(".")
    groups = [whole[-3:]]
    rest = whole[:-3]
    while rest:
        groups.insert(0, rest[-2:])
        rest = rest[:-2]
    sign = "−" if amount < 0 else ""
    return f"{sign}{SIGNS.get(currency, currency + ' ')}{','.join(groups)}" + (f".{fraction}" if fraction else "")


def _pages(lines: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Lines by page, so that the closing block has room on the last one."""
    room, start = int((BOTTOM - FIRST_ROW) / ROW), 0
    while True:
        fits = len(lines) - start <= room - int(CLOSING / ROW)
        yield lines[start:] if fits else lines[start : start + room]
        if fits:
            return
        start, room = start + room, int((BOTTOM - NEXT_ROW) / ROW)


def _sheet(head: Statement) -> FPDF:
    from fpdf import FPDF  # a quarter of a second, which only who draws should wait for

    sheet = FPDF(format="A4", unit="mm")
    sheet.set_auto_page_break(False)
    sheet.c_margin = 0
    fonts = resources.files(__package__).joinpath("fonts")
    for family, style, name in (("Noto", "", "NotoSans-Regular"), ("Noto", "B", "NotoSans-Bold"),
                                ("Devanagari", "", "NotoSansDevanagari-Regular")):  # fmt: skip
        with resources.as_file(fonts.joinpath(f"{name}.ttf")) as file:
            sheet.add_font(family, style, file)
    sheet.set_fallback_fonts(["Devanagari"], exact_match=False)
    sheet.set_title(f"Statement {_days(head)}")
    sheet.set_author("Matchday")
    sheet.set_lang("en-IN")
    return sheet


def _page_head(sheet: FPDF) -> None:
    _put(sheet, "Matchday", LEFT, TOP, size=16, bold=True, colour=ACCENT)
    _put(sheet, "Statement of account", RIGHT, TOP, size=11, right=True)
    _rule(sheet, TOP + 9, ACCENT, 0.5)


def _about(sheet: FPDF, head: Statement, holder: str | None) -> None:
    y = TOP + 13
    for label, text in (
        ("Holder", holder),
        ("Account", head.account.code),
        ("Period", _days(head)),
        ("Currency", head.account.currency),
        ("Made on", f"{_when(head.read_at)} IST"),
        ("Status", head.closing.status if head.complete else f"{head.closing.status}; the period is not over"),
    ):
        if text is not None:
            _put(sheet, label, LEFT, y, size=8, colour=GREY)
            _put(sheet, text, LEFT + 20, y, size=8.5, width=82)
            y += 6


def _summary(sheet: FPDF, head: Statement) -> None:
    left, y = 122.0, TOP + 13
    sheet.set_fill_color(*PALE)
    sheet.rect(left, y - 1, RIGHT - left, 39, style="F")
    currency = head.account.currency
    for label, amount in (
        ("Opening balance", head.opening.posted.amount),
        ("Credits", head.credits.amount),
        ("Debits", head.debits.amount),
        ("Closing balance", head.closing.posted.amount),
        ("of which on hold", head.closing.held.amount),
    ):
        strong = label == "Closing balance"
        _put(sheet, label, left + 4, y + 1, size=8.5, bold=strong, colour=INK if strong else GREY)
        _put(sheet, money(amount, currency), RIGHT - 4, y + 1, size=10 if strong else 8.5, bold=strong, right=True)
        y += 7


def _table_head(sheet: FPDF, y: float) -> None:
    sheet.set_fill_color(*ACCENT)
    sheet.rect(LEFT, y, RIGHT - LEFT, BAND, style="F")
    white = (255, 255, 255)
    for text, edge, right in (
        ("No.", NUMBER, True), ("Recorded (IST)", NUMBER + 3, False), ("Description", WHEN, False),
        ("Debit", DEBIT, True), ("Credit", CREDIT, True), ("Balance", BALANCE, True),
    ):  # fmt: skip
        _put(sheet, text, edge, y + PAD + 0.3, size=7.5, bold=True, colour=white, right=right)


def _row(sheet: FPDF, head: Statement, line: Entry, y: float) -> None:
    currency = head.account.currency
    _put(sheet, str(line.sequence), NUMBER, y, size=7, colour=GREY, right=True)
    _put(sheet, _when(line.recorded_at), NUMBER + 3, y, size=7.5)
    if head.posted_late(line):
        _put(sheet, f"happened {_when(line.happened_at)[:-3]}", NUMBER + 3, y + 4, size=6, colour=LATE)
    _put(sheet, line.kind.replace("_", " ").capitalize(), WHEN, y, size=7.5, bold=True, width=WHAT - WHEN)
    _put(sheet, _details(line), WHEN, y + 4, size=6, colour=GREY, width=WHAT - WHEN + 24)
    for amount, edge in zip(sides(head, line), (DEBIT, CREDIT), strict=True):
        if amount:
            _put(sheet, money(amount, currency), edge, y, size=7.5, right=True)
    _put(sheet, money(line.balance_after.amount, currency), BALANCE, y, size=7.5, right=True)
    _rule(sheet, y + ROW - 1, RULE, 0.1)


def _details(line: Entry) -> str:
    parts = [line.reference]
    for change, more, less in (
        (line.held, "set aside", "no longer set aside"), (line.pending, "on its way in", "no longer on its way in"),
    ):  # fmt: skip
        if change.amount:
            parts.append(f"{money(abs(change.amount), change.currency)} {more if change.amount > 0 else less}")
    return " · ".join(part for part in parts if part)


def _bound(sheet: FPDF, label: str, amounts: Sequence[Money | None], y: float) -> None:
    """The opening or the closing row: amounts in the columns for debit, credit and balance."""
    sheet.set_fill_color(*PALE)
    sheet.rect(LEFT, y, RIGHT - LEFT, BAND, style="F")
    _put(sheet, label, WHEN, y + PAD, size=8, bold=True)
    for amount, edge in zip(amounts, (DEBIT, CREDIT, BALANCE), strict=True):
        if amount is not None:
            _put(sheet, money(amount.amount, amount.currency), edge, y + PAD, size=7.5, bold=True, right=True)


def _closing(sheet: FPDF, head: Statement, sealed: Sequence[Sealed], y: float) -> None:
    label = "Closing balance" if head.complete else "Balance so far"
    _bound(sheet, label, (head.debits, head.credits, head.closing.posted), y - 1)
    for number, block in enumerate(sealed):
        text = f"Hash chain, lane {block.lane}, block {block.number}: {block.hash.hex()}"
        _put(sheet, text, LEFT, y + BAND + PAD + 2.6 * number, size=5, colour=GREY)


def _page_foot(sheet: FPDF, head: Statement, number: int, count: int) -> None:
    y = BOTTOM + 4
    _rule(sheet, y - 1, RULE, 0.2)
    numbers = "No entries in this period"
    if head.sequences is not None:
        first, last = head.sequences
        numbers = f"{head.count} entries, numbered {first} to {last} without a hole"
    _put(sheet, f"{head.account.code} · {numbers}", LEFT, y, size=6.5, colour=GREY, width=150)
    _put(sheet, f"Page {number} of {count}", RIGHT, y, size=7, colour=GREY, right=True)


def _put(
    sheet: FPDF, text: str, x: float, y: float, *, size: float, bold: bool = False,
    colour: tuple[int, int, int] = INK, right: bool = False, width: float | None = None,
) -> None:  # fmt: skip
    """One line of text, its left or its right end at x; cut where it is wider than `width`."""
    sheet.set_font("Noto", "B" if bold else "", size)
    sheet.set_text_color(*colour)
    text = "".join(char if char.isprintable() else " " for char in text)
    shaped = any("ऀ" <= char <= "ॿ" for char in text)
    sheet.set_text_shaping(shaped)
    if width is not None and _width(sheet, text, shaped) > width:
        fitting = bisect(range(len(text)), width, key=lambda count: _width(sheet, text[:count] + "…", shaped))
        text = text[: fitting - 1] + "…"
    left = x - _width(sheet, text, shaped) if right else x
    if shaped:  # slow, and all that knows of a second font
        sheet.set_xy(left, y)
        sheet.cell(h=size * LINE, text=text)
    else:
        sheet.text(left, y + size * BASELINE, text)


def _width(sheet: FPDF, text: str, shaped: bool) -> float:
    if shaped:
        return sheet.get_string_width(text)
    assert sheet.current_font is not None
    return sheet.current_font.get_text_width(text, sheet.font_size_pt, None)[1] / sheet.k


def _rule(sheet: FPDF, y: float, colour: tuple[int, int, int], width: float) -> None:
    sheet.set_draw_color(*colour)
    sheet.set_line_width(width)
    sheet.line(LEFT, y, RIGHT, y)


def _days(head: Statement) -> str:
    return f"{head.period.first:%-d %B %Y} to {head.period.last:%-d %B %Y}"


def _when(at: datetime) -> str:
    return f"{at.astimezone(INDIA):%-d %b %Y, %H:%M:%S}"
