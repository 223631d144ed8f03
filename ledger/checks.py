"""The standing audit: every invariant recomputed from entries.

Run after every money test, nightly, and by `matchday ledger check`. Numbers are those of README.md.
"""

from __future__ import annotations

from contracts import ids
from ledger.journal import Q
from storage.db import Connection


async def violations(conn: Connection) -> list[str]:
    """Name every broken invariant; an empty list means that the books are right. Reads all of the ledger.

    Call it in one transaction of level repeatable read while others are posting.
    """
    found: list[str] = []
    for row in await Q.unbalanced_transactions(conn):
        found.append(f"I1 transaction {ids.of('txn', row['id'])} is not whole or does not sum to zero")
    for row in await Q.unbalanced_books(conn):
        found.append(f"I1 all accounts in {row['currency']} do not sum to zero")
    for row in await Q.stray_entries(conn):
        found.append(f"I1 entry {row['sequence']} of account {row['account_id']} is in no transaction")
    for row in await Q.broken_histories(conn):
        found.append(f"I2 account {row['account_id']} breaks at entry {row['sequence']}")
    for row in await Q.wrong_balances(conn):
        found.append(f"I3 balance of {row['code']} {row['currency']} differs from its entries")
    for row in await Q.accounts_out_of_limits(conn):
        found.append(f"I4 {row['code']} {row['currency']} is outside its limits, or they are not written down")
    for row in await Q.wrong_holds(conn):
        found.append(f"I5 pending money of {row['code']} {row['currency']} differs from its open holds")
    if stray := await Q.rows_without_a_month(conn):
        found.append(f"I9 {stray} entries are in no month")
    return found
