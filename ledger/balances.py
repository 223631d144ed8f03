"""Reading accounts: the balance now, and the entries behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from contracts.money import Money
from ledger.accounts import Account
from ledger.journal import Q
from storage.db import Connection

NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Balance:
    """A balance on the account's normal side. `sequence` counts the account's entries; 0 means none yet."""

    amount: Money
    sequence: int
    recorded_at: datetime | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account. `amount` and `balance_after` are signed on the account's normal side."""

    sequence: int
    transaction_id: str
    kind: str
    reference: str
    amount: Money
    balance_after: Money
    happened_at: datetime
    recorded_at: datetime


async def balance(conn: Connection, account: Account) -> Balance:
    """The balance as of now; zero for an account that no posting has opened."""
    row = await Q.balance(conn, code=account.code, currency=account.currency)
    if row is None:
        return Balance(Money(Decimal(0), account.currency), 0, None)
    return Balance(Money(row["balance"], account.currency), row["sequence"], row["recorded_at"])


async def entries(conn: Connection, account: Account, *, before: int, limit: int) -> list[Entry]:
    """Entries with a sequence below `before`, newest first."""
    rows = await Q.entries_before(conn, code=account.code, currency=account.currency, before=before, limit=limit)
    sign = 1 if account.credit_normal else -1
    return [
        Entry(
            sequence=row["sequence"],
            transaction_id=row["transaction_id"],
            kind=row["kind"],
            reference=row["reference"],
            amount=Money(sign * row["amount"], account.currency),
            balance_after=Money(sign * row["balance_after"], account.currency),
            happened_at=row["happened_at"],
            recorded_at=row["recorded_at"],
        )
        for row in rows
    ]
