"""What reading a wallet needs beside the ledger: its refusals, the days that are asked for, cursors for both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from contracts.errors import NotFound, Refused
from contracts.runtime import Fault
from contracts.runtime.problem import InvalidParameter
from ledger.pages import Filter
from ledger.reading import NEWEST, OLDEST
from ledger.statements import Period, midnight
from storage import paging

MAX_DAYS = 366
TICK = timedelta(microseconds=1)
LEAP_SECOND = re.compile(r"(:[0-9]{2}):60")


class PeriodUnfit(Refused):
    code, title = "wallet.period", "Not a period that can be asked for"


class TransactionUnknown(NotFound):
    code, title = "wallet.transaction_unknown", "No such transaction"


def period(query: Mapping[str, Any]) -> Period:
    """The days of a statement. Raises PeriodUnfit."""
    days = Period(date.fromisoformat(query["from"]), date.fromisoformat(query["to"]))
    if days.first > days.last:
        raise PeriodUnfit("`from` is after `to`")
    if (days.last - days.first).days >= MAX_DAYS:
        raise PeriodUnfit(f"a statement covers {MAX_DAYS} days at most")
    return days


def narrowed(query: Mapping[str, Any]) -> Filter:
    """Which entries are asked for. Raises PeriodUnfit."""
    since = midnight(date.fromisoformat(query["from"])) if "from" in query else OLDEST
    until = midnight(date.fromisoformat(query["to"]) + timedelta(days=1)) if "to" in query else NEWEST
    if since >= until:
        raise PeriodUnfit("`from` is after `to`")
    return Filter(since, until, query.get("kind"), query.get("reference"))


def instant(text: str) -> datetime:
    """An instant of RFC 3339, also one in a leap second."""
    return datetime.fromisoformat(LEAP_SECOND.sub(r"\1:59", text.upper()).replace("Z", "+00:00")).astimezone(UTC)


def cursor(position: datetime | None, *, newer: bool = False) -> str | None:
    """The cursor of the page of older entries than a position, or of newer ones."""
    return None if position is None else paging.encode((position - OLDEST) // TICK * 2 + newer)


def position(query: Mapping[str, Any], *, both_ways: bool = False) -> tuple[datetime | None, bool]:
    """The position in the request's cursor, None without one, and whether newer entries are asked for.

    Raises InvalidParameter for a cursor that is not ours, or not of this list.
    """
    if "cursor" not in query:
        return None, False
    ticks, newer = divmod(paging.decode(query["cursor"]), 2)
    if ticks >= (NEWEST - OLDEST) // TICK or (newer and not both_ways):
        raise InvalidParameter(errors=[Fault("#/query/cursor", "cursor", "must be a cursor of this list")])
    return OLDEST + ticks * TICK, bool(newer)
