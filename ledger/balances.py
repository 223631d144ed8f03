"""Reading accounts: the balance now, and the entries behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from contracts import ids
from contracts.money import Money
from ledger.accounts import Account
from ledger.journal import Q
from storage.db import Connection

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Balance:
    """A balance on the account's normal side.

    `posted` is what its entries add up to, `held` what is set aside of it, `available` the rest; `pending` is on its
    way in and not counted in any of them. `sequence` counts the entries; 0 means none yet.
    """

    posted: Money
    held: Money
    pending: Money
    sequence: int
    recorded_at: datetime | None
    status: str

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
        zero = Money(ZERO, account.currency)
        return Balance(zero, zero, zero, 0, None, "open")
    held, pending = _sides(account, row["pending_debits"], row["pending_credits"])
    return Balance(
        posted=Money(_normal(account, row["credits"] - row["debits"]), account.currency),
        held=held,
        pending=pending,
        sequence=row["sequence"],
        recorded_at=row["recorded_at"] if row["sequence"] else None,
        status=row["status"],
    )


async def entries(conn: Connection, account: Account, *, before: datetime, limit: int) -> list[Entry]:
    """Entries recorded before an instant, newest first."""
    rows = await Q.entries_before(conn, code=account.code, currency=account.currency, before=before, limit=limit)
    found = []
    for row in rows:
        held, pending = _sides(account, row["pending_debit"], row["pending_credit"])
        found.append(
            Entry(
                sequence=row["sequence"],
                transaction_id=ids.of("txn", row["transaction_id"]),
                kind=row["kind"],
                reference=row["reference"],
                amount=Money(_normal(account, row["amount"]), account.currency),
                held=held,
                pending=pending,
                balance_after=Money(_normal(account, row["balance_after"]), account.currency),
                happened_at=row["happened_at"],
                recorded_at=row["recorded_at"],
            )
        )
    return found


def _normal(account: Account, amount: Decimal) -> Decimal:
    return amount if account.credit_normal else -amount


def _sides(account: Account, pending_debit: Decimal, pending_credit: Decimal) -> tuple[Money, Money]:
    """Held and pending: what is to leave the account, and what is to come in."""
    out, into = (pending_debit, pending_credit) if account.credit_normal else (pending_credit, pending_debit)
    return Money(out, account.currency), Money(into, account.currency)
