"""What the ledger does by the clock. Each may run twice or at once, to no effect."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from contracts import ids
from contracts.errors import AppError
from contracts.money import Money
from ledger import anchors, chain, checks, journal
from ledger.journal import Resolution
from storage import sql
from storage.db import Connection, Database

logger = logging.getLogger(__name__)

BATCH = 50
MONTHS_AHEAD = 3
FIRST_ID = UUID(int=0)


class Sweeps:
    """The tasks; `anchor_key` (PEM, Ed25519) None: heads are not written down."""

    def __init__(self, db: Database, *, anchor_key: str | None, anchor_file: Path) -> None:
        self._db = db
        self._anchor_key = anchor_key
        self._anchor_file = anchor_file

    async def seal(self) -> int:
        """Seal what was posted; return how many transactions."""
        return await chain.seal(self._db)

    async def anchor(self) -> bool:
        """Write the heads of the chain down outside the database; False when there is no key for it."""
        if self._anchor_key is None:
            logger.warning("ledger.not_anchored")
            return False
        await anchors.anchor(self._db, key=self._anchor_key, file=self._anchor_file)
        return True

    async def ensure_months(self) -> int:
        """Make the months of entries ahead; return how many were missing."""
        async with self._db.transaction() as conn:
            first = datetime.now(UTC).date()
            return int(await chain.Q.ensure_months(conn, first=first, months=MONTHS_AHEAD + 1))

    async def expire_holds(self) -> int:
        """Release what is left of the holds whose time is over; return how many."""
        released = 0
        after = (datetime.min.replace(tzinfo=UTC), FIRST_ID)
        while True:
            async with self._db.transaction() as conn:
                rows = await chain.Q.due_holds(conn, after_expiry=after[0], after_id=after[1], limit=BATCH)
                # Not locked before the balances: whoever captures locks balances first and the hold's row last. What
                # changes in between is refused, and looked at again by the next sweep.
                postings = [(await journal.resolving(conn, _release(row)),) for row in rows]
                results = await journal.post_many(conn, postings) if postings else []
            released += sum(not isinstance(result, AppError) and not result[0].replayed for result in results)
            if len(rows) < BATCH:
                return released
            after = (rows[-1]["expires_at"], rows[-1]["id"])

    async def check(self) -> list[str]:
        """Run the standing audit; what it finds is logged as an error."""
        async with self._db.transaction(isolation="repeatable_read", readonly=True) as conn:
            found = await audit(conn)
        for violation in found:
            logger.error("ledger.violation", extra={"violation": violation, "count": len(found)})
        return found


async def audit(conn: Connection) -> list[str]:
    """`checks.violations` without a time limit; the transaction is of level repeatable read."""
    await chain.Q.patient(conn)
    return await checks.violations(conn)


def _release(row: sql.Row) -> Resolution:
    hold_id = ids.of("hld", row["id"])
    return Resolution(
        f"hold_expired:{hold_id}", "hold_expired", hold_id, row["expires_at"], hold_id,
        released=Money(row["left"], row["currency"]),
    )  # fmt: skip
