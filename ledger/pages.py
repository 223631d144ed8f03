"""Entries of an account in keyset pages, both ways, narrowed to a period, a kind or a reference.

A page costs the same however long the history is. Entries of a kind have no index: of these, a page looks at so many
entries and no more, and may come back short, or empty, with more behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger import balances
from ledger.accounts import Account
from ledger.balances import Entry
from ledger.reading import NEWEST, OLDEST, Q
from storage import sql
from storage.db import Connection

LOOK = 1000
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted: recorded from one instant on and before another, of a kind, of a reference."""

    since: datetime = OLDEST
    until: datetime = NEWEST
    kind: str | None = None
    reference: str | None = None


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, newest first. `older` and `newer` are positions for the next pages, None where nothing is known to be.

    `archived_before` is set where older entries exist that were archived: they were recorded before it.
    """

    items: list[Entry]
    older: datetime | None
    newer: datetime | None
    archived_before: datetime | None


async def older(
    conn: Connection, account: Account, *, than: datetime | None, limit: int, narrowed: Filter = EVERYTHING
) -> Page:
    """The page of entries recorded before a position, or the newest when it is None."""
    before = narrowed.until if than is None else min(than, narrowed.until)
    rows = await _rows(conn, account, narrowed, narrowed.since - TICK, before, limit, oldest_first=False)
    found, rest = _cut(rows, limit, narrowed.kind)
    items = [balances.entry(account, row) for row in found]
    newer = None if than is None else (items[0].recorded_at if items else than - TICK)
    gone = await _archived(conn, account, narrowed, items) if rest is None else None
    return Page(items, rest, newer, gone)


async def newer(
    conn: Connection, account: Account, *, than: datetime, limit: int, narrowed: Filter = EVERYTHING
) -> Page:
    """The page of entries recorded after a position: the next ones, not the newest."""
    after = max(than, narrowed.since - TICK)
    rows = await _rows(conn, account, narrowed, after, narrowed.until, limit, oldest_first=True)
    found, rest = _cut(rows, limit, narrowed.kind)
    items = [balances.entry(account, row) for row in reversed(found)]
    return Page(items, items[-1].recorded_at if items else than + TICK, rest, None)


async def _rows(
    conn: Connection, account: Account, narrowed: Filter, after: datetime, before: datetime, limit: int, *,
    oldest_first: bool,
) -> list[sql.Row]:  # fmt: skip
    place = {"code": account.code, "currency": account.currency, "after": after, "before": before}
    wanted = {**place, "kind": narrowed.kind, "limit": limit + 1}
    if narrowed.reference is not None:
        query = Q.reference_after if oldest_first else Q.reference_before
        rows: list[sql.Row] = await query(conn, **wanted, reference=narrowed.reference)
    else:
        query = Q.entries_after if oldest_first else Q.entries_before
        rows = await query(conn, **wanted, look=limit + 1 if narrowed.kind is None else LOOK)
    return rows


def _cut(rows: list[sql.Row], limit: int, kind: str | None) -> tuple[list[sql.Row], datetime | None]:
    """The rows of the page, and the position after which the next one goes on."""
    found = [row for row in rows if kind is None or row["kind"] == kind]
    if len(found) > limit:
        return found[:limit], found[limit - 1]["recorded_at"]
    if kind is not None and rows and rows[-1].get("looked") == LOOK:
        return found, rows[-1]["recorded_at"]
    return found, None


async def _archived(conn: Connection, account: Account, narrowed: Filter, items: list[Entry]) -> datetime | None:
    if items and items[-1].sequence == 1:
        return None
    before: datetime | None = await Q.archived_before(conn, code=account.code, currency=account.currency)
    return before if before is not None and narrowed.since < before else None
