"""The way in: `post` writes one balanced transaction inside the caller's database transaction.

The SQL function it calls is the ledger's only writer (migrations/functions/ledger_post_v1.sql). Locks: the balance
rows of the posting, in account order, until the caller's transaction ends.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from contracts import ids
from contracts.errors import Conflict, Refused
from contracts.money import Money
from ledger.accounts import Account
from storage import faults, sql
from storage.db import Connection

Q = sql.load(__package__)


class InsufficientFunds(Refused):
    """The posting would take an account below its floor."""

    code, title = "wallet.insufficient_funds", "Not enough money"


class KeyReused(Conflict):
    """The posting's key belongs to a transaction with other contents."""

    code, title = "ledger.key_reused", "This key belongs to another transaction"


faults.on_constraint("balances_floor", lambda _: InsufficientFunds())
faults.on_sqlstate("LG007", lambda _: KeyReused())


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a posting: an account and a signed amount, credit positive, debit negative."""

    account: Account
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Posting:
    """What is to be written. `key` makes it happen once, for ever; `reference` is opaque to the ledger."""

    key: str
    kind: str
    reference: str
    happened_at: datetime
    legs: tuple[Leg, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    def fingerprint(self) -> bytes:
        """SHA-256 over what the posting means: the same key must always come with the same fingerprint."""
        legs = sorted(
            (leg.account.code, leg.account.currency, format(leg.amount.normalize(), "f")) for leg in self.legs
        )
        parts = [self.kind, self.reference, self.happened_at.astimezone(UTC).isoformat(), legs, self.metadata]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


@dataclass(frozen=True, slots=True)
class Posted:
    """A written transaction; `replayed` when the key had been posted before and nothing was written now."""

    transaction_id: str
    recorded_at: datetime
    replayed: bool


def credit(account: Account, amount: Money) -> Leg:
    """A leg that credits `amount`, which must be above zero and in the account's currency."""
    return Leg(account, _checked(account, amount))


def debit(account: Account, amount: Money) -> Leg:
    """A leg that debits `amount`, which must be above zero and in the account's currency."""
    return Leg(account, -_checked(account, amount))


async def post(conn: Connection, posting: Posting) -> Posted:
    """Write a posting, or return the transaction that its key wrote before.

    Raises InsufficientFunds and KeyReused; a posting that does not balance is a bug and raises the database's error.
    """
    accounts = [leg.account for leg in posting.legs]
    row = await Q.post(
        conn,
        id=ids.new("txn"),
        key=posting.key,
        request_hash=posting.fingerprint(),
        kind=posting.kind,
        reference=posting.reference,
        metadata=posting.metadata,
        happened_at=posting.happened_at,
        codes=[account.code for account in accounts],
        currencies=[account.currency for account in accounts],
        kinds=[account.kind for account in accounts],
        floors=[account.floor for account in accounts],
        amounts=[leg.amount for leg in posting.legs],
    )
    return Posted(row["transaction_id"], row["recorded_at"], row["replayed"])


def _checked(account: Account, amount: Money) -> Decimal:
    if amount.currency != account.currency:
        raise ValueError("leg and account differ in currency")
    if amount.amount <= 0:
        raise ValueError("a leg's amount is above zero; its side says the direction")
    return amount.amount
