"""The log's days: made ahead of time, dropped whole when they are over.

A day is over `log_keep_days` after it ended. It stays while a group of consumers has not passed it, and so does what
comes after it. Dropping takes a lock that readers of the log wait for, so it waits a tenth of a second for it at the
most, lets everybody pass, and tries again. A cut does not end the log's epoch: positions go on, a cursor that is newer
than the cut stays good, and an older one is `expired`.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import date, timedelta

from contracts.errors import StorageBusy
from storage import faults
from storage.db import Database
from streams import log, metrics
from streams.log import SHARD, Q
from streams.options import StreamOptions
from streams.relay import today

logger = logging.getLogger(__name__)

DAYS_AHEAD = 2
TRIES = 20
PAUSE_S = 0.5
INBOX_BATCH = 10_000
MARGIN = timedelta(hours=1)  # transactions of two leaders that took turns begin in any order

faults.on_sqlstate("55P03", lambda fault: StorageBusy())  # lock_not_available: drop_event_day_v1 waits no longer


class Retention:
    """What is done by the clock. It may run twice or at once, to no effect."""

    def __init__(self, db: Database, options: StreamOptions) -> None:
        self._db = db
        self._options = options

    async def keep_days(self) -> int:
        """Make the days to come and drop those that are over; return how many events went. Raises StorageBusy."""
        async with self._db.transaction() as conn:
            await Q.ensure_days(conn, first=today(), days=1 + DAYS_AHEAD)
        return await cut(self._db, keep_days=self._options.log_keep_days, now=today())


async def cut(db: Database, *, keep_days: int, now: date) -> int:
    """Drop the days before `now - keep_days`, oldest first, and inbox rows of events that are gone; how many went.

    Stops at the first day that a group has not passed. Raises StorageBusy when readers leave no moment for it.
    """
    before = now - timedelta(days=keep_days)
    async with db.connection() as conn:
        over = [row["day"] for row in await Q.list_days(conn, shard=SHARD) if row["day"] < before]
    gone = 0
    while over:
        events = await _drop(db, over[0])
        if events is None:
            await _tell_who_is_behind(db, over)
            break
        gone += events
        metrics.RETENTION_CUT.inc(events)
        del over[0]
    metrics.RETENTION_HELD.set(len(over))
    await _prune_inbox(db)
    return gone


async def _drop(db: Database, day: date) -> int | None:
    for attempt in range(1, TRIES + 1):
        try:
            async with db.transaction() as conn:
                events: int | None = await Q.drop_day(conn, day=day)
                return events
        except StorageBusy:
            if attempt == TRIES:
                raise
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("unreachable")


async def _tell_who_is_behind(db: Database, over: list[date]) -> None:
    async with db.connection() as conn:
        end = (await log.head(conn)).position + 1
        days = {row["day"]: row["next_position"] or end for row in await Q.list_days(conn, shard=SHARD)}
        for row in await Q.list_positions(conn, shard=SHARD):
            if row["position"] < days[over[0]] - 1:
                told = {"group": row["consumer_group"], "count": len(over)}
                logger.warning("retention.group_is_behind", extra=told)


async def _prune_inbox(db: Database) -> None:
    """Drop what was handled before the oldest event that is kept came to the log."""
    async with db.connection() as conn:
        kept_since = await Q.kept_since(conn, shard=SHARD)
    while True:
        async with db.transaction() as conn:
            if await Q.prune_inbox(conn, before=kept_since - MARGIN, batch=INBOX_BATCH) < INBOX_BATCH:
                return
