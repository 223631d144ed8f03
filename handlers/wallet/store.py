"""Named queries in, what the ledger answers out."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.errors import AppError
from handlers.wallet.rules import Transfer
from ledger import journal
from ledger.journal import Posting
from ledger.poster import Results
from storage import sql
from storage.db import Connection
from streams import outbox

Q = sql.load(__package__)


async def post_transfers(
    conn: Connection, sets: Sequence[tuple[Posting, ...]], transfers: Sequence[Transfer]
) -> Results:
    """Post transfers and tell both parties of those that are written now, in one statement: the poster's `write`."""
    results = await journal.post_many(
        conn, sets, by=Q.post_transfers,
        senders=[transfer.sender for transfer in transfers],
        receivers=[transfer.receiver for transfer in transfers],
        currencies=[transfer.amount.currency for transfer in transfers],
    )  # fmt: skip
    if not all(isinstance(result, AppError) or result[0].replayed for result in results):
        conn.notes.add(outbox.APPENDED)
    return results
