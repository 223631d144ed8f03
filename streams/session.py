"""What both transports share: opening a stream, watching over those that are open, and ending them all.

place: room for one more?
open:  admit ─▶ register in the hub, hold ─▶ backlog ─▶ (transport sends) ─▶ live
watch: once a second: gone? revoked? a right withdrawn? cursor grown old?
drain: refuse new streams; end the open ones over `drain_s`, each with its own moment to come back
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from contracts.errors import Unavailable
from streams import metrics
from streams.admission import Admission
from streams.connection import Close, Connection, Observer
from streams.frames import Delivery
from streams.hub import Hub
from streams.options import StreamOptions
from streams.resume import Resumer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A registered connection that holds deliveries until `go_live` is given the first message and the backlog."""

    connection: Connection
    body: dict[str, Any]
    backlog: list[Delivery]


class Sessions:
    """The open streams of this process."""

    def __init__(
        self, hub: Hub, resumer: Resumer, admission: Admission, options: StreamOptions, *, observe: Observer | None
    ) -> None:
        self.hub = hub
        self.admission = admission
        self.options = options
        self._resumer = resumer
        self.observe = observe
        self.draining = False
        self._taken = 0
        self._closed = asyncio.Event()

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the `max_streams` places of this process, for a stream and for what still becomes one.

        Raises Unavailable when all are taken or the process is stopping.
        """
        self._refuse_while_draining()
        if self._taken >= self.options.max_streams:
            raise Unavailable("This process has as many streams as it can serve; connect again.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    @asynccontextmanager
    async def open(
        self, connection: Connection, wanted: Iterable[str] | None, cursor: str | None
    ) -> AsyncIterator[Opened]:
        """A stream for the length of the block, registered before its backlog is read.

        Raises NotAuthenticated for a revoked session, TooManyStreams, StorageBusy when rights or backlog cannot be
        read, Unavailable when the ground moved while they were, or the process is stopping by now.
        """
        open_streams = metrics.CONNECTIONS.labels(connection.framing.transport)
        try:
            with self.admission.place_of(connection.principal), open_streams.track_inprogress():
                yield await self._begin(connection, wanted, cursor)
        finally:
            connection.end(Close.NORMAL)
            self.hub.remove(connection)
            close = connection.ended.result().close
            if close not in (Close.NORMAL, Close.GOING_AWAY):
                metrics.EVICTIONS.labels(close.reason).inc()
            if not self.hub.connections:
                self._closed.set()

    async def _begin(self, connection: Connection, wanted: Iterable[str] | None, cursor: str | None) -> Opened:
        await self.admission.refuse_revoked(connection.principal)
        grant = await self.admission.grant(connection.principal, wanted)
        self._refuse_while_draining()  # with no pause before the hub knows it: else nobody would end this stream
        self.hub.add(connection, grant.channels)
        resumption = await self._resumer.resume(connection, cursor)
        if connection.ended.done() and connection.ended.result().close is Close.INSUFFICIENT_STATE:
            raise Unavailable("The log was replaced meanwhile; connect again.")
        body = {
            "cursor": self.hub.cursor_at(resumption.position),
            **resumption.json(),
            "ttl_s": connection.ttl_s,
            "channels": sorted(grant.channels),
            "refused": list(grant.refused),
        }
        return Opened(connection, body, resumption.backlog)

    async def watch(self) -> None:
        """Look after open streams until cancelled."""
        last_ping = 0.0
        while True:
            await asyncio.sleep(self.options.revocation_check_s)
            self._look_at_outlets()
            await self._end_revoked()
            await self._leave_withdrawn()
            now = asyncio.get_running_loop().time()
            if now - last_ping >= self.options.ping_s:
                last_ping = now
                self._move_cursors()

    # Each look is a call of its own: a loop variable of `watch` would keep the last stream of a round in memory.

    def _move_cursors(self) -> None:
        for connection in self.hub.connections:
            connection.move_cursor(self.hub.position, self.hub.cursor)

    def _look_at_outlets(self) -> None:
        queued = 0
        for connection in self.hub.connections:
            if connection.outlet is not None:
                queued += connection.outlet.queued
                if connection.outlet.is_gone:
                    connection.end(Close.NORMAL)
        metrics.QUEUE_BYTES.set(queued)

    async def drain(self) -> None:
        """Refuse new streams and end the open ones, spread over `drain_s`; returns when all are closed."""
        self.draining = True
        leaving = list(self.hub.connections)
        random.shuffle(leaving)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, connection in enumerate(leaving):
            # by the clock: with thousands the pause between two is shorter than any timer is fine
            await asyncio.sleep(began + self.options.drain_s * number / len(leaving) - loop.time())
            connection.end(Close.GOING_AWAY)
        try:
            async with asyncio.timeout(self.options.write_deadline_s):
                while self.hub.connections:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            for connection in list(self.hub.connections):
                if connection.outlet is not None:
                    connection.outlet.abort()

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Unavailable("This process is stopping; connect again.")

    async def _end_revoked(self) -> None:
        try:
            for connection in await self.admission.revoked(self.hub.connections):
                connection.end(Close.TOKEN_INVALID)
        except Exception as fault:
            # asked again in a second; until then a stream is no more trusted than its token, which is short-lived
            logger.warning("streams.revocation_unknown", extra={"fault": type(fault).__name__})

    async def _leave_withdrawn(self) -> None:
        """Take open streams off the channels that their users may read no longer, and say so."""
        try:
            withdrawn = await self.admission.withdrawn(self.hub.connections)
        except Exception as fault:
            # what was granted stays until it can be asked about: see docs/adr/0024-channels-rights-and-presence.md
            logger.warning("streams.rights_unknown", extra={"fault": type(fault).__name__})
            return
        for connection, channels in withdrawn.items():
            for channel in channels:
                self.hub.unsubscribe(connection, channel)
            if not connection.ended.done():
                connection.send("unsubscribed", {"channels": sorted(channels), "reason": "forbidden"})
