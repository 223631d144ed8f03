"""Consumers: readers of the log that react with effects of their own, each event once.

    claim the group's position (row lock) ─▶ next events ─▶ inbox rows ─▶ handler, one by one ─▶ advance
                                                                             │       one transaction
                                                                             ▼ raises: all of it is rolled back
                     the same events again, each in a transaction of its own, until the one that fails:
                     count the failure, wait twice as long as before; after `consumer_tries` a dead letter
                     and on to the next event

Handler, inbox row and position commit together, so an effect in this database happens exactly once, also when a group
is sent back to an earlier position (replay.py); a group handles one event at a time, in commit order, however many
processes run it. A handler may be called again with an event whose effect was rolled back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from storage.db import Connection, Database
from storage.redis import Redis
from streams import dead_letters, log, metrics
from streams.log import SHARD, Handler, LogEntry, Q
from streams.options import StreamOptions
from streams.outbox import log_channel
from streams.wakeups import Wakeups

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A group of readers, by its name in `consumer_positions`, and its reaction to events of some types, or of all."""

    group: str
    handler: Handler
    types: frozenset[str] | None = None


@dataclass(slots=True)
class Turn:
    """A group's turn at the next positions, up to one; without an event nothing was tried yet."""

    entry: LogEntry | None = None
    attempts: int = 0
    positions: int = 0
    upto: int = 0


class Consumers:
    """Runs consumers side by side in one process; `run()` until cancelled."""

    def __init__(self, db: Database, redis: Redis, consumers: Sequence[Consumer], options: StreamOptions) -> None:
        self._db = db
        self._redis = redis
        self._consumers = consumers
        self._options = options
        self._alone_until: dict[str, int] = {}  # by group: one of the events up to here has failed

    async def run(self) -> None:
        """React to events. Faults of either server are logged and tried again."""
        grown = {consumer.group: asyncio.Event() for consumer in self._consumers}

        def wake(_: bytes | None) -> None:
            for event in grown.values():
                event.set()

        wakeups = Wakeups(self._redis, log_channel(SHARD), wake, self._options)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wakeups.run(), name="consumers.wakeups")
            for consumer in self._consumers:
                tasks.create_task(self._run(consumer, grown[consumer.group]), name=f"consumer.{consumer.group}")

    async def _run(self, consumer: Consumer, grown: asyncio.Event) -> None:
        known = False
        while True:
            grown.clear()
            try:
                if not known:
                    async with self._db.connection() as conn:
                        await Q.add_consumer(conn, consumer_group=consumer.group, shard=SHARD)
                    known = True
                while await self._step(consumer):
                    pass
            except Exception as fault:
                logger.warning("consumer.interrupted", extra={"fault": type(fault).__name__, "group": consumer.group})
            try:
                async with asyncio.timeout(self._options.consumer_poll_s):
                    await grown.wait()
            except TimeoutError:
                pass

    async def _step(self, consumer: Consumer) -> bool:
        """Handle the next events; False when there is none to be handled now."""
        turn = Turn()
        try:
            async with self._db.transaction() as conn:
                return await self._handle_next(conn, consumer, turn)
        except Exception as fault:
            # Whatever it was once the handler had begun, COMMIT included (deferred constraints), counts against the
            # event: else it would hold up the group for ever.
            if turn.entry is None:
                raise
            if turn.positions > 1:
                self._alone_until[consumer.group] = turn.upto
            else:
                await self._note(consumer, turn.entry, turn.attempts, fault)
            return True

    async def _handle_next(self, conn: Connection, consumer: Consumer, turn: Turn) -> bool:
        """Handle what is due of the next positions; False when it is not the group's turn or the log ends here."""
        claimed = await Q.claim_position(conn, consumer_group=consumer.group, shard=SHARD)
        if claimed is None:
            return False
        after = await self._begin(conn, consumer, claimed["position"])
        head = await log.head(conn)
        metrics.CONSUMER_LAG.labels(consumer.group).set(head.position - after)
        if after >= head.position:
            return False
        alone = claimed["attempts"] or after < self._alone_until.get(consumer.group, 0)
        turn.upto = min(after + (1 if alone else self._options.consumer_batch), head.position)
        turn.positions = turn.upto - after
        rows = await Q.next_events(
            conn, consumer_group=consumer.group, shard=SHARD, after=after, upto=turn.upto,
            types=None if consumer.types is None else sorted(consumer.types),
        )  # fmt: skip
        for row in rows:
            turn.entry, turn.attempts = LogEntry.from_row(row), claimed["attempts"] + 1
            await consumer.handler(conn, turn.entry)
        await self._advance(conn, consumer, turn.upto)
        return True

    async def _begin(self, conn: Connection, consumer: Consumer, position: int) -> int:
        """Where a group reads on: where it stands, or at the beginning of the log when it is new."""
        floor = await log.floor(conn)
        if 0 < position < floor - 1:  # retention.py never does that
            logger.error("consumer.events_lost", extra={"group": consumer.group, "count": floor - 1 - position})
        return max(position, floor - 1)

    async def _advance(self, conn: Connection, consumer: Consumer, position: int) -> None:
        await Q.advance_position(conn, consumer_group=consumer.group, shard=SHARD, position=position)

    async def _note(self, consumer: Consumer, entry: LogEntry, attempts: int, fault: Exception) -> None:
        options, group = self._options, consumer.group
        told = {"group": group, "event_id": entry.event_id, "attempts": attempts}
        async with self._db.transaction() as conn:
            claimed = await Q.claim_position(conn, consumer_group=group, shard=SHARD)
            if claimed is None or claimed["position"] >= entry.position or claimed["attempts"] + 1 != attempts:
                return  # another process of the group has been at it since
            if attempts < options.consumer_tries:
                delay_s = min(options.consumer_backoff_s * 2 ** (attempts - 1), options.consumer_backoff_max_s)
                await Q.note_failure(conn, consumer_group=group, shard=SHARD, attempts=attempts, delay_s=delay_s)
            else:
                await dead_letters.record(conn, group=group, entry=entry, fault=fault, attempts=attempts)
                await self._advance(conn, consumer, entry.position)
        gave_up = attempts >= options.consumer_tries
        if gave_up:
            metrics.DEAD_LETTERS.labels(group).inc()
        logger.error("consumer.gave_up" if gave_up else "consumer.failed", extra=told, exc_info=fault)
