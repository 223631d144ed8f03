"""What contracts/wallet.yaml calls: read the ledger, render."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.runtime import Call, Reply
from ledger import accounts, balances
from ledger.balances import Entry
from storage import paging
from storage.db import Database

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = datetime.max.replace(tzinfo=UTC)


class Operations:
    """One method per operationId."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get_balance(self, call: Call) -> Reply:
        account = accounts.wallet(call.principal.user_id, call.query["currency"])
        async with self._db.connection() as conn:
            balance = await balances.balance(conn, account)
        as_of = balance.recorded_at.isoformat() if balance.recorded_at else None
        return Reply(200, {"available": balance.available.json(), "entries": balance.sequence, "as_of": as_of})

    async def list_entries(self, call: Call) -> Reply:
        account = accounts.wallet(call.principal.user_id, call.query["currency"])
        limit = call.query["limit"]
        before = (
            EPOCH + timedelta(microseconds=paging.decode(call.query["cursor"])) if "cursor" in call.query else NEWEST
        )
        async with self._db.connection() as conn:
            found = await balances.entries(conn, account, before=before, limit=limit + 1)
        page = found[:limit]
        next_cursor = (
            paging.encode((page[-1].recorded_at - EPOCH) // timedelta(microseconds=1)) if len(found) > limit else None
        )
        return Reply(200, {"items": [_entry(entry) for entry in page], "next_cursor": next_cursor})


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "transaction_id": entry.transaction_id,
        "sequence": entry.sequence,
        "kind": entry.kind,
        "reference": entry.reference,
        "amount": entry.amount.wire(),
        "balance_after": entry.balance_after.wire(),
        "currency": entry.amount.currency,
        "happened_at": entry.happened_at.isoformat(),
        "recorded_at": entry.recorded_at.isoformat(),
    }
