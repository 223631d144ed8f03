"""Transactions: found by id, key, reference or metadata, and shown whole; or one account's own side of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from contracts import ids
from contracts.errors import Refused
from contracts.money import Money
from ledger import balances, open_holds
from ledger.accounts import Account, Kind
from ledger.balances import Entry
from ledger.open_holds import HoldState
from ledger.reading import NEWEST, ArchivedEntries, Q
from storage import sql
from storage.db import Connection

LAST_ID = UUID(int=2**128 - 1)
# More transactions than anybody looks through; there is no index by time among those of the same metadata.
TOO_MANY = 1000


class TooManyFound(Refused):
    """The search would return more than anybody looks through."""

    code, title = "ledger.too_many_found", "Too many transactions match: ask for more"


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a transaction. Plus is credit, also in `balance_after`, whatever the account's normal side."""

    account: str
    currency: str
    kind: Kind
    sequence: int
    amount: Decimal
    pending_debit: Decimal
    pending_credit: Decimal
    balance_after: Decimal

    @property
    def moves_pending(self) -> bool:
        return self.pending_debit != 0 or self.pending_credit != 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A transaction with all there is about it. `hold` is the one that it placed or resolved, between its two accounts.

    `archived` when its entries were taken out with their month; it has no lines then.
    """

    transaction_id: str
    key: str
    kind: str
    reference: str
    metadata: dict[str, str]
    happened_at: datetime
    recorded_at: datetime
    reverses: str | None
    reversed_by: str | None
    hold: HoldState | None
    hold_source: str | None
    hold_target: str | None
    lines: tuple[Line, ...]
    archived: bool


@dataclass(frozen=True, slots=True)
class OwnSide:
    """A transaction as one of its accounts sees it: its own entry, and what it has to do with others."""

    entry: Entry
    reverses: str | None
    reversed_by: str | None
    hold: HoldState | None


async def by_ids(conn: Connection, wanted: Sequence[UUID]) -> list[Whole]:
    """Those of the transactions that exist, oldest first, each with all of its lines."""
    lines: dict[UUID, list[Line]] = {}
    for row in await Q.lines(conn, ids=wanted):
        lines.setdefault(row["id"], []).append(_line(row))
    return [_transaction(row, tuple(lines.get(row["id"], ()))) for row in await Q.transactions(conn, ids=wanted)]


async def by_id(conn: Connection, transaction_id: str) -> Whole | None:
    """The transaction of an id. Raises ValueError for what is no id."""
    return next(iter(await by_ids(conn, [_uuid(transaction_id)])), None)


async def by_key(conn: Connection, key: str) -> Whole | None:
    """The transaction that a posting with this key wrote."""
    return await by_id(conn, ids.derived("txn", key))


async def by_reference(conn: Connection, reference: str, *, limit: int, before: Whole | None = None) -> list[Whole]:
    """Transactions of a reference, newest first; `before` is the last one of the page before."""
    position = (NEWEST, LAST_ID) if before is None else (before.recorded_at, _uuid(before.transaction_id))
    rows = await Q.with_reference(conn, reference=reference, before=position[0], before_id=position[1], limit=limit)
    return await _newest_first(conn, rows)


async def by_metadata(conn: Connection, metadata: Mapping[str, str], *, limit: int) -> list[Whole]:
    """Transactions whose metadata has all of these members, newest first. Raises TooManyFound for more than 1000."""
    rows = await Q.with_metadata(conn, metadata=dict(metadata), look=TOO_MANY + 1)
    if len(rows) > TOO_MANY:
        raise TooManyFound
    return await _newest_first(conn, rows[:limit])


async def own_side(conn: Connection, account: Account, transaction_id: str) -> OwnSide | None:
    """An account's side of a transaction; None when it has no part in it. Raises ArchivedEntries."""
    row = await Q.own_side(conn, code=account.code, currency=account.currency, id=_uuid(transaction_id))
    if row is None:
        return None
    if row["sequence"] is None:
        raise ArchivedEntries
    hold = open_holds.state(account, row) if row["hold_id"] else None
    return OwnSide(balances.entry(account, row), _id(row["reverses"]), _id(row["reversed_by"]), hold)


async def _newest_first(conn: Connection, rows: Sequence[sql.Row]) -> list[Whole]:
    return (await by_ids(conn, [row["id"] for row in rows]))[::-1]


def _transaction(row: sql.Row, lines: tuple[Line, ...]) -> Whole:
    hold = None
    if row["amount"] is not None:
        currency = row["hold_currency"]
        amount, captured, released = (Money(row[name], currency) for name in ("amount", "captured", "released"))
        hold = HoldState(ids.of("hld", row["hold_id"]), "out", amount, captured, released, row["expires_at"])
    return Whole(
        transaction_id=ids.of("txn", row["id"]),
        key=row["key"],
        kind=row["kind"],
        reference=row["reference"],
        metadata=row["metadata"],
        happened_at=row["happened_at"],
        recorded_at=row["recorded_at"],
        reverses=_id(row["reverses"]),
        reversed_by=_id(row["reversed_by"]),
        hold=hold,
        hold_source=row["source"],
        hold_target=row["target"],
        lines=lines,
        archived=not lines,
    )


def _line(row: sql.Row) -> Line:
    return Line(
        account=row["code"],
        currency=row["currency"],
        kind=row["kind"],
        sequence=row["sequence"],
        amount=row["amount"],
        pending_debit=row["pending_debit"],
        pending_credit=row["pending_credit"],
        balance_after=row["credits"] - row["debits"],
    )


def _id(value: UUID | None) -> str | None:
    return None if value is None else ids.of("txn", value)


def _uuid(transaction_id: str) -> UUID:
    if not transaction_id.startswith("txn_"):
        raise ValueError("a transaction's id begins with txn_")
    return ids.decode(transaction_id[4:])
