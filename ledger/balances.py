"""Reading accounts: the balance, now or at an instant of the past, and the entries behind it.

Two clocks stand on every entry, and a past balance says by which it counts. Nothing is ever rewritten for it:

    recorded   what we had written down by R          the entry after R knows what it found
    happened   what had happened by E                 the same at E, and what came later but had happened by E
    both       what we believed at R about E          the same, but nothing that was recorded after R
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from contracts import ids
from contracts.money import Money
from ledger.accounts import Account
from ledger.reading import NEWEST, OLDEST, ArchivedEntries, Q, held_and_pending, on_normal_side
from storage import sql
from storage.db import Connection

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Balance:
    """A balance on the account's normal side.

    `posted` is what its entries add up to, `held` what is set aside of it, `available` the rest; `pending` is on its
    way in and not counted in any of them. `sequence` counts the entries; 0 means none yet. `recorded_at` is when the
    last one was recorded, None before the first; of a balance of the past it is the instant that was asked for.
    `credits` and `debits` are all that ever came to either side.
    """

    posted: Money
    held: Money
    pending: Money
    sequence: int
    recorded_at: datetime | None
    status: str
    credits: Money
    debits: Money

    @property
    def available(self) -> Money:
        return Money(self.posted.amount - self.held.amount, self.posted.currency)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account, signed on its normal side. `held` and `pending` say how those two changed."""

    sequence: int
    transaction_id: str
    kind: str
    reference: str
    amount: Money
    held: Money
    pending: Money
    balance_after: Money
    happened_at: datetime
    recorded_at: datetime


async def balance(conn: Connection, account: Account) -> Balance:
    """The balance as of now; zero for an account that no posting has opened."""
    row = await Q.balance(conn, code=account.code, currency=account.currency)
    if row is None:
        return _unopened(account)
    return _balance(account, row, row["recorded_at"] if row["sequence"] else None)


async def balance_at(
    conn: Connection, account: Account, *, recorded: datetime = NEWEST, happened: datetime = NEWEST
) -> Balance:
    """The balance as recorded up to one instant and as far as it had happened up to another, both included.

    The recorded clock costs one descent of an index. The other costs a look at the account's entries of the hour after
    `happened` besides, and at the late ones (an hour or more) of its month and of what came after. An instant of the
    last moments may still gain what is being committed. Raises ArchivedEntries.
    """
    (found,) = await balances_at(conn, account, [(recorded, happened)])
    return found


async def balances_at(
    conn: Connection, account: Account, instants: Sequence[tuple[datetime, datetime]]
) -> list[Balance]:
    """`balance_at` for pairs of recorded and happened, all of them out of one snapshot. Raises ArchivedEntries."""
    rows = await Q.states(
        conn, code=account.code, currency=account.currency,
        recorded=[recorded for recorded, _ in instants], happened=[happened for _, happened in instants],
    )  # fmt: skip
    if not all(row["known"] for row in rows):
        raise ArchivedEntries
    if not rows:
        return [_unopened(account) for _ in instants]
    return [_balance(account, row, min(pair)) for row, pair in zip(rows, instants, strict=True)]


async def entries(
    conn: Connection, account: Account, *, after: datetime = OLDEST, before: datetime = NEWEST, limit: int,
    oldest_first: bool = False,
) -> list[Entry]:  # fmt: skip
    """Entries recorded after one instant and before another, newest first. Archived ones are not among them."""
    query = Q.entries_after if oldest_first else Q.entries_before
    rows = await query(
        conn, code=account.code, currency=account.currency, after=after, before=before, kind=None, look=limit,
        limit=limit,
    )  # fmt: skip
    return [entry(account, row) for row in rows]


def entry(account: Account, row: sql.Row) -> Entry:
    """The entry in a row of the queries that return entries."""
    held, pending = held_and_pending(account, row["pending_debit"], row["pending_credit"])
    return Entry(
        sequence=row["sequence"],
        transaction_id=ids.of("txn", row["transaction_id"]),
        kind=row["kind"],
        reference=row["reference"],
        amount=on_normal_side(account, row["amount"]),
        held=held,
        pending=pending,
        balance_after=on_normal_side(account, row["balance_after"]),
        happened_at=row["happened_at"],
        recorded_at=row["recorded_at"],
    )


def _unopened(account: Account) -> Balance:
    zero = Money(ZERO, account.currency)
    return Balance(zero, zero, zero, 0, None, "open", zero, zero)


def _balance(account: Account, row: sql.Row, recorded_at: datetime | None) -> Balance:
    held, pending = held_and_pending(account, row["pending_debits"], row["pending_credits"])
    return Balance(
        posted=on_normal_side(account, row["credits"] - row["debits"]),
        held=held,
        pending=pending,
        sequence=row["sequence"],
        recorded_at=recorded_at,
        status=row["status"],
        credits=Money(row["credits"], account.currency),
        debits=Money(row["debits"], account.currency),
    )
