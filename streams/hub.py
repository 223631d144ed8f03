"""The hub: one per process; follows the log from its own position and hands each event to its connections.

    relay PUBLISH ─┐
    resubscribed ──┼─▶ one pass: read the log after `position` ─▶ ring ─▶ channel ─▶ connections
    timer ≤ 1 s ───┘

What Redis says is only a reason to look. Positions are contiguous, so a hole cannot be passed over: when the log
does not continue where the hub stands (restored, cut), every stream is ended with "insufficient state".

A system call is what a delivery costs, so a pass gives each connection all its new events in one write, and passes
begin `hub_gather_s` apart at the least. Under load a pass takes longer, and the next one finds more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from uuid import UUID

from contracts.errors import StorageBusy
from storage.db import Database
from storage.redis import Redis
from streams import log, metrics
from streams.connection import Close, Connection
from streams.cursor import Cursor, CursorCodec
from streams.frames import Batch, Delivery
from streams.log import SHARD, Head, LogEntry
from streams.options import StreamOptions
from streams.outbox import log_channel
from streams.wakeups import Wakeups

logger = logging.getLogger(__name__)


class Hub:
    """Connections by channel, and the position up to which they all have been served."""

    def __init__(self, db: Database, redis: Redis, cursors: CursorCodec, options: StreamOptions) -> None:
        self._db = db
        self._cursors = cursors
        self._options = options
        self._wakeups = Wakeups(redis, log_channel(SHARD), self._on_wake, options)
        self._ring: deque[Delivery] = deque(maxlen=options.hub_ring)
        self._by_channel: dict[str, set[Connection]] = {}
        self._look = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.connections: set[Connection] = set()
        self._cursor_cache = (-1, "")
        self._told = 0  # the newest position that Redis spoke of
        self._hole = False  # wake-ups may have been missed since the last look
        self._filling = False
        self._stand_at(Head(UUID(int=0), 0))

    async def start(self) -> None:
        """Stand at the end of the log, remember what came before, and begin to follow. Raises StorageBusy.

        The clients of a process that died come back with their cursors to one that has just started: what they missed
        is read here, once.
        """
        async with self._db.connection() as conn:
            head = await log.head(conn)
            _, recent = await log.follow(
                conn, after=max(0, head.position - self._options.hub_ring), page=self._options.hub_ring
            )
        self._stand_at(head)
        self._ring.extend(self.delivery(entry) for entry in recent if entry.position <= head.position)
        self._tasks = [
            asyncio.create_task(self._wakeups.run(), name="hub.wakeups"),
            asyncio.create_task(self._follow(), name="hub.follow"),
        ]

    async def stop(self) -> None:
        """Stop following. Connections are not touched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def cursor(self) -> str:
        """The cursor of everything this process has seen."""
        if self._cursor_cache[0] != self.position:
            self._cursor_cache = (self.position, self.cursor_at(self.position))
        return self._cursor_cache[1]

    def delivery(self, entry: LogEntry) -> Delivery:
        """A log entry with the encodings that it has in this process and in this lifetime of the log."""
        return Delivery(entry, source=self._options.source, cursor_at=self.cursor_at)

    def add(self, connection: Connection, channels: Iterable[str]) -> None:
        """Register a connection at the present position: it misses nothing that comes after."""
        connection.position = self.position
        self.connections.add(connection)
        for channel in channels:
            self.subscribe(connection, channel)

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        for channel in list(connection.channels):
            self.unsubscribe(connection, channel)

    def subscribe(self, connection: Connection, channel: str) -> None:
        """Deliver the events of a channel from now on."""
        connection.channels.add(channel)
        self._by_channel.setdefault(channel, set()).add(connection)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """Deliver the events of a channel no more."""
        connection.channels.discard(channel)
        subscribers = self._by_channel.get(channel)
        if subscribers is not None:
            subscribers.discard(connection)
            if not subscribers:
                del self._by_channel[channel]

    def recent(self, after: int) -> list[Delivery] | None:
        """Every event after a position from memory; None when memory does not reach back so far."""
        if after >= self.position:
            return []
        if not self._ring or self._ring[0].position > after + 1:
            return None
        return list(islice(self._ring, after + 1 - self._ring[0].position, None))

    async def refresh(self) -> None:
        """Return after one whole look at the log that began after this call. Raises StorageBusy when that fails."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._look.set()
        await done

    def _on_wake(self, payload: bytes | None) -> None:
        if payload is None:
            self._hole = True
            self._look.set()
            return
        growth = json.loads(payload)
        self._hole = self._hole or growth["first"] > max(self._told, self.position) + 1
        self._told = max(self._told, growth["last"])
        if growth["last"] > self.position:
            self._look.set()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._look.clear()
            waiting, self._waiting = self._waiting, []
            fault = await self._catch_up()
            for done in waiting:
                if not done.done() and fault is None:
                    done.set_result(None)
                elif not done.done():
                    done.set_exception(StorageBusy())
            await self._pause()
            await asyncio.sleep(began + self._options.hub_gather_s - loop.time())

    async def _catch_up(self) -> Exception | None:
        try:
            while not await self._read_page():
                pass
        except Exception as fault:
            # The log cannot be read now. Streams stay open: they are late, they lose nothing.
            logger.warning("hub.log_unreadable", extra={"fault": type(fault).__name__})
            self._look.clear()  # whatever woke us: not again before the timer
            return fault
        if self._filling:
            metrics.GAPS_FILLED.inc()
        self._hole = self._filling = False
        return None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._options.hub_poll_s):
                await self._look.wait()
        except TimeoutError:
            self._hole = True

    async def _read_page(self) -> bool:
        """Take in one page; True when the end of the log is reached."""
        async with self._db.connection() as conn, asyncio.timeout(self._options.hub_read_s):
            head, entries = await log.follow(conn, after=self.position, page=self._options.hub_page)
        metrics.LOG_READS.labels("follow").inc()
        first = entries[0].position if entries else head.position + 1
        if head.epoch != self.epoch or head.position < self.position or first != self.position + 1:
            self._restart(head)
            return True
        if entries:
            self._measure(entries)
            self._dispatch([self.delivery(entry) for entry in entries])
        metrics.NODE_LAG.set(head.position - self.position)
        return self.position >= head.position

    def _measure(self, entries: Sequence[LogEntry]) -> None:
        if self._hole:
            metrics.GAPS_FOUND.inc()
            self._hole, self._filling = False, True
        metrics.NODE_LAG_S.observe((datetime.now(UTC) - entries[0].happened_at).total_seconds())

    def _dispatch(self, deliveries: Sequence[Delivery]) -> None:
        """Give every connection what concerns it; those with the same channels share the bytes."""
        self.position = deliveries[-1].position
        self._ring.extend(deliveries)
        heard: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            for channel in delivery.entry.channels:
                if channel in self._by_channel:
                    heard.setdefault(channel, []).append(delivery)
        hears: dict[Connection, tuple[str, ...]] = {}
        for channel in heard:
            for connection in self._by_channel[channel]:
                hears[connection] = (*hears.get(connection, ()), channel)
        batches: dict[tuple[str, ...], Batch] = {}
        events: Counter[str] = Counter()
        writes: Counter[str] = Counter()
        for connection, channels in hears.items():
            batch = batches.get(channels)
            if batch is None:
                batch = batches[channels] = Batch(_merged([heard[channel] for channel in channels]))
            transport = connection.framing.transport
            try:
                events[transport] += connection.deliver(batch)
                writes[transport] += 1
            except Exception:
                # one connection's fault must not become a hole in another's stream
                logger.exception("hub.delivery_failed")
                connection.end(Close.INTERNAL)
        for name, number in events.items():
            metrics.DELIVERIES.labels(name).inc(number)
            metrics.WRITES.labels(name).inc(writes[name])

    def _restart(self, head: Head) -> None:
        """The log is not the one we followed: begin anew at its end and have every client do so too."""
        logger.error("hub.log_replaced", extra={"position": self.position, "head": head.position})
        self._stand_at(head)
        for connection in list(self.connections):
            connection.end(Close.INSUFFICIENT_STATE)

    def _stand_at(self, head: Head) -> None:
        self.epoch, self.position, self._told = head.epoch, head.position, head.position
        # bound to the epoch: what was read in one lifetime is never sealed with the next
        self.cursor_at: Callable[[int], str] = partial(self._seal, head.epoch)
        self._ring.clear()
        self._cursor_cache = (-1, "")

    def _seal(self, epoch: UUID, position: int) -> str:
        return self._cursors.encode(Cursor(epoch, {SHARD: position}))


def _merged(parts: Sequence[list[Delivery]]) -> Sequence[Delivery]:
    """The events of several channels, each once, in the order of the log."""
    if len(parts) == 1:
        return parts[0]
    by_position = {delivery.position: delivery for part in parts for delivery in part}
    return [by_position[position] for position in sorted(by_position)]
