"""What the modules that read the ledger share: queries, the ends of time, the refusal of what was archived."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from contracts.errors import Gone
from contracts.money import Money
from ledger.accounts import Account
from storage import sql

Q = sql.load(__package__, "reading.sql")
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = datetime.max.replace(tzinfo=UTC)


class ArchivedEntries(Gone):
    """The answer needs entries of a month that was taken out of the database."""

    code, title = "ledger.archived", "Entries of that time are archived"


def on_normal_side(account: Account, amount: Decimal) -> Money:
    """An amount whose plus is credit, as whoever looks at the account reads it."""
    return Money(amount if account.credit_normal else -amount, account.currency)


def held_and_pending(account: Account, pending_debit: Decimal, pending_credit: Decimal) -> tuple[Money, Money]:
    """What is to leave the account, and what is to come in."""
    out, into = (pending_debit, pending_credit) if account.credit_normal else (pending_credit, pending_debit)
    return Money(out, account.currency), Money(into, account.currency)
