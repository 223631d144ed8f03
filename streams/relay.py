"""The relay: moves committed events from the outbox to the log, in one transaction, at contiguous positions.

    outbox --(leader: one transaction)--> event_log --(Redis PUBLISH, a wake-up)--> hubs, consumers

One leader per shard, by a session-level advisory lock on the very connection that does the work: without the
session there is neither lock nor work. Should two ever believe to lead, the row lock on `event_log_shards` still
makes them take turns, so the lock is a matter of order in the house, not of correctness.
A crash before COMMIT leaves the rows in the outbox; a crash before PUBLISH costs readers their poll interval.
The first event of a day opens the day's partition of the log, if no job has made it ahead of time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime

from storage.db import Connection, Database
from storage.redis import Redis, RedisError
from streams import metrics
from streams.log import SHARD, Q
from streams.options import StreamOptions
from streams.outbox import log_channel, poke_channel
from streams.wakeups import Wakeups, raise_if_cancelled

logger = logging.getLogger(__name__)

LOCK_CLASS = 0x72656C61  # "rela": the advisory locks of relays, by shard
PUBLISH_TIMEOUT_S = 1.0
WAITING_EVERY_S = 5.0  # counting what waits
WAITING_LIMIT = 100_000  # costs more, the more it is


def today() -> date:
    """The UTC day on which what is moved now goes to the log."""
    return datetime.now(UTC).date()


class Relay:
    """Leader or stand-by of a shard. `run()` until cancelled; any number of processes may run one."""

    def __init__(
        self, db: Database, redis: Redis, options: StreamOptions, *, shard: int = SHARD,
        today: Callable[[], date] = today,
    ) -> None:  # fmt: skip
        self._db = db
        self._redis = redis
        self._options = options
        self._shard = shard
        self._today = today
        self._work = asyncio.Event()
        self._grown = asyncio.Event()
        self._first: int | None = None
        self._last = 0
        self.leading = False

    async def run(self) -> None:
        """Lead when the lock is free, else stand by. Faults of either server are logged and tried again."""
        poked = Wakeups(self._redis, poke_channel(self._shard), lambda _: self._work.set(), self._options)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(poked.run(), name="relay.wakeups")
            tasks.create_task(self._announce(), name="relay.announce")
            tasks.create_task(self._lead_or_stand_by(), name="relay.lead")

    async def _lead_or_stand_by(self) -> None:
        while True:
            try:
                async with self._db.connection() as conn:
                    if await Q.try_lead(conn, lock_class=LOCK_CLASS, shard=self._shard):
                        await self._lead(conn)
            except Exception as fault:
                logger.warning("relay.interrupted", extra={"fault": type(fault).__name__, "shard": self._shard})
            finally:
                self.leading = False
                metrics.RELAY_LEADING.set(0)
                metrics.OUTBOX_WAITING.set(0)  # whoever leads counts
            await asyncio.sleep(self._options.relay_takeover_s)

    async def _lead(self, conn: Connection) -> None:
        await Q.guard_session(conn, lease_ms=str(int(self._options.relay_lease_s * 1000)))
        self.leading = True
        metrics.RELAY_LEADING.set(1)
        logger.info("relay.leading", extra={"shard": self._shard})
        counted_at = 0.0
        while True:
            self._work.clear()
            async with asyncio.timeout(self._options.relay_lease_s):
                if asyncio.get_running_loop().time() - counted_at >= WAITING_EVERY_S:
                    counted_at = asyncio.get_running_loop().time()
                    metrics.OUTBOX_WAITING.set(await Q.count_waiting(conn, shard=self._shard, upto=WAITING_LIMIT))
                moved = await self._move(conn)
            if moved < self._options.relay_batch:
                await self._wait_for_work()

    async def _move(self, conn: Connection) -> int:
        """Move one batch; how many rows it was. Joins the leader's connection, so the lock covers it."""
        if not await Q.outbox_waiting(conn, shard=self._shard):
            return 0
        async with self._db.transaction() as conn:
            end = await Q.lock_head(conn, shard=self._shard, today=self._today())
            if not end["has_begun"]:
                await Q.ensure_days(conn, first=end["day"], days=1)
                await Q.begin_day(conn, shard=self._shard, day=end["day"])
            batch = await Q.move_batch(
                conn, shard=self._shard, head=end["head"], sequence=end["sequence"], day=end["day"],
                batch=self._options.relay_batch,
            )  # fmt: skip
        if batch["moved"]:
            metrics.RELAY_LAG.observe(batch["lag_s"])
            self._first = self._first or batch["first"]
            self._last = batch["last"]
            self._grown.set()
        moved: int = batch["moved"]
        return moved

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(self._options.relay_poll_s):
                await self._work.wait()
        except TimeoutError:
            pass

    async def _announce(self) -> None:
        """Publish what was appended since the last time. Apart from the mover: a slow Redis must not slow it."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            growth = {"shard": self._shard, "first": self._first, "last": self._last}
            self._first = None
            try:
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await self._redis.publish(log_channel(self._shard), json.dumps(growth))
            except (RedisError, OSError) as fault:
                logger.warning("relay.wakeup_lost", extra={"fault": type(fault).__name__, "shard": self._shard})
            raise_if_cancelled()
