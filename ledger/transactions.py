"""Reading one transaction by its id."""

from __future__ import annotations

from dataclasses import dataclass

from contracts import ids
from ledger.accounts import Account
from ledger.journal import Line, Posted, Q
from storage.db import Connection


@dataclass(frozen=True, slots=True)
class Transaction:
    """A written transaction; `posted` is what the caller was answered, as a replay.

    The numbers of its lines are None when its month was archived; its accounts are always there.
    """

    kind: str
    reference: str
    metadata: dict[str, str]
    posted: Posted


async def find(conn: Connection, transaction_id: str) -> Transaction | None:
    """A transaction with its lines in the order of account ids, None when there is none of this id."""
    rows = await Q.transaction(conn, id=ids.decode(transaction_id.removeprefix("txn_")))
    if not rows:
        return None
    head = rows[0]
    lines = tuple(
        Line(
            Account(row["code"], row["currency"], row["account_kind"], row["floor"], row["ceiling"]), row["amount"],
            row["sequence"], row["credits"], row["debits"], row["pending_credits"], row["pending_debits"],
        )
        for row in rows
    )  # fmt: skip
    posted = Posted(transaction_id, head["recorded_at"], True, lines)
    return Transaction(head["kind"], head["reference"], head["metadata"], posted)
