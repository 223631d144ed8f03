"""The standing audit: every invariant recomputed from entries.

Run after every money test and by whoever doubts a balance. Numbers are those of README.md.
"""

from __future__ import annotations

from ledger.journal import Q
from storage.db import Connection


async def violations(conn: Connection) -> list[str]:
    """Name every broken invariant; an empty list means that the books are right. Reads all of the ledger."""
    found: list[str] = []
    for row in await Q.unbalanced_transactions(conn):
        found.append(f"I1 transaction {row['id']} does not sum to zero")
    for row in await Q.broken_histories(conn):
        found.append(f"I2 account {row['account_id']} breaks at entry {row['sequence']}")
    for row in await Q.wrong_balances(conn):
        found.append(f"I3 balance of {row['code']} {row['currency']} differs from its entries")
    for row in await Q.accounts_below_floor(conn):
        found.append(f"I4 {row['code']} {row['currency']} is below its floor")
    return found
