"""The hub: one per process; follows the log from its own position and hands each event to its connections.

    relay PUBLISH ─┐
    resubscribed ──┼─▶ one pass: read the log after `position` ─▶ ring ─▶ channel ─▶ connections
    timer ≤ 1 s ───┘

What Redis says is only a reason to look. Positions are contiguous, so a hole cannot be passed over: when the log
does not continue where the hub stands (restored, cut), every stream is ended with "insufficient state".
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from uuid import UUID

from contracts.errors import StorageBusy
from storage.db import Database
from storage.redis import Redis
from streams import log
from streams.connection import Close, Connection
from streams.cursor import Cursor, CursorCodec
from streams.frames import Delivery
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
        self._stand_at(Head(UUID(int=0), 0))

    async def start(self) -> None:
        """Stand at the end of the log and begin to follow it. Raises StorageBusy when it cannot be read."""
        async with self._db.connection() as conn:
            self._stand_at(await log.head(conn))
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
        if payload is None or json.loads(payload)["last"] > self.position:
            self._look.set()

    async def _follow(self) -> None:
        while True:
            self._look.clear()
            waiting, self._waiting = self._waiting, []
            fault = await self._catch_up()
            for done in waiting:
                if not done.done() and fault is None:
                    done.set_result(None)
                elif not done.done():
                    done.set_exception(StorageBusy())
            await self._pause()

    async def _catch_up(self) -> Exception | None:
        try:
            while not await self._read_page():
                pass
        except Exception as fault:
            # The log cannot be read now. Streams stay open: they are late, they lose nothing.
            logger.warning("hub.log_unreadable", extra={"fault": type(fault).__name__})
            self._look.clear()  # whatever woke us: not again before the timer
            return fault
        return None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._options.hub_poll_s):
                await self._look.wait()
        except TimeoutError:
            pass

    async def _read_page(self) -> bool:
        """Take in one page; True when the end of the log is reached."""
        async with self._db.connection() as conn:
            head, entries = await log.follow(conn, after=self.position, page=self._options.hub_page)
        continues = not entries or entries[0].position == self.position + 1
        if head.epoch != self.epoch or head.position < self.position or not continues:
            self._restart(head)
            return True
        for entry in entries:
            self._dispatch(self.delivery(entry))
        return self.position >= head.position

    def _dispatch(self, delivery: Delivery) -> None:
        self.position = delivery.position
        self._ring.append(delivery)
        receivers: set[Connection] = set()
        for channel in delivery.entry.channels:
            receivers |= self._by_channel.get(channel, set())
        for connection in receivers:
            try:
                connection.deliver(delivery)
            except Exception:
                # one connection's fault must not become a hole in another's stream
                logger.exception("hub.delivery_failed")
                connection.end(Close.INTERNAL)

    def _restart(self, head: Head) -> None:
        """The log is not the one we followed: begin anew at its end and have every client do so too."""
        logger.error("hub.log_replaced", extra={"position": self.position, "head": head.position})
        self._stand_at(head)
        for connection in list(self.connections):
            connection.end(Close.INSUFFICIENT_STATE)

    def _stand_at(self, head: Head) -> None:
        self.epoch, self.position = head.epoch, head.position
        # bound to the epoch: what was read in one lifetime is never sealed with the next
        self.cursor_at: Callable[[int], str] = partial(self._seal, head.epoch)
        self._ring.clear()
        self._cursor_cache = (-1, "")

    def _seal(self, epoch: UUID, position: int) -> str:
        return self._cursors.encode(Cursor(epoch, {SHARD: position}))
