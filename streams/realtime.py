"""Realtime: everything of streams/ that a web process runs, behind one object."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from contracts.errors import Forbidden
from storage.db import Database
from storage.redis import Redis
from streams.admission import Admission, Authenticate, RevokedAmong, Rights
from streams.backlogs import Backlogs
from streams.connection import Observer, Principal
from streams.cursor import CursorCodec
from streams.hub import Hub
from streams.longpoll import LongPolls
from streams.options import StreamOptions
from streams.presence import Attendance, NoPresence, Presence
from streams.resume import Resumer
from streams.schema import MessageContract
from streams.session import Sessions
from streams.sse import EventStreams
from streams.tickets import Tickets
from streams.websocket import WebSockets


class Realtime:
    """The hub and both transports of one process; contracts/events.yaml describes what clients see.

    `cursor_secrets`: the first seals, all of them open; at least 32 bytes each, the same in every process.
    `authenticate` turns an access token into a principal; `rights` say what it may read now; `revoked_among` is given
    the session ids of all open streams once a second and answers those to be ended.
    `observe` sees every message sent, and must not raise.
    """

    def __init__(
        self, db: Database, redis: Redis, *, cursor_secrets: Sequence[str], authenticate: Authenticate,
        rights: Rights, revoked_among: RevokedAmong, options: StreamOptions,
        observe: Observer | None = None,
    ) -> None:  # fmt: skip
        cursors = CursorCodec(cursor_secrets)
        self.tickets = Tickets(redis, options)
        self._hub = Hub(db, redis, cursors, options)
        self._rights = rights
        self._admission = Admission(
            tickets=self.tickets, authenticate=authenticate, rights=rights, revoked_among=revoked_among, options=options
        )
        self._presence = Presence(redis, self._hub, rights, options)
        resumer = Resumer(Backlogs(db, self._hub.delivery), self._hub, cursors, options)
        self._sessions = Sessions(self._hub, resumer, self._admission, options, observe=observe)
        self._websockets = WebSockets(self._sessions, MessageContract.load())
        self._event_streams = EventStreams(self._sessions)
        self._long_polls = LongPolls(self._sessions)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def cursor(self) -> str:
        """What this process has seen so far. Taken *before* a read, it makes "load, then connect" free of holes."""
        return self._hub.cursor

    @property
    def open_streams(self) -> int:
        """How many streams are open in this process."""
        return len(self._hub.connections)

    @property
    def draining(self) -> bool:
        """Whether this process is stopping, and takes no more streams."""
        return self._sessions.draining

    async def start(self) -> None:
        """Begin to follow the log. Raises StorageBusy when it cannot be read."""
        await self._hub.start()
        self._tasks = [
            asyncio.create_task(self._sessions.watch(), name="streams.watch"),
            asyncio.create_task(self._presence.run(), name="streams.presence"),
        ]

    async def stop(self) -> None:
        """Say good-bye to every stream over `drain_s`, then stop; to be called while handlers still run."""
        await self._sessions.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hub.stop()

    async def websocket_handler(self, request: web.Request) -> web.StreamResponse:
        """Serve `GET` with an upgrade. Raises Problem (403, 400, 503) before the upgrade; after it, close codes."""
        return await self._websockets(request)

    async def sse(self, request: web.Request, principal: Principal | None) -> web.StreamResponse:
        """Serve an event stream for a principal, or for the holder of the `ticket` in the query.

        Reads `Last-Event-ID` (else `last_event_id`), `channels`. Raises Problem (400, 401, 503) before the first byte.
        """
        return await self._event_streams(request, principal)

    async def poll(
        self, request: web.Request, principal: Principal, *, cursor: str | None, wait_s: float
    ) -> dict[str, Any]:
        """Answer one long poll, for orjson: what was missed since a cursor, or what comes within `wait_s`.

        Reads `channels`. Raises Problem (400, 401, 503).
        """
        return await self._long_polls(request, principal, cursor=cursor, wait_s=wait_s)

    async def presence(self, principal: Principal, channel: str) -> Attendance:
        """Return who has a channel in an open stream, in any process.

        Raises NoPresence for a channel that does not tell, Forbidden for one that this principal may not read,
        StorageBusy, and Unavailable while it is not known.
        """
        if self._rights.presence(channel) is None:
            raise NoPresence
        if not (await self._admission.grant(principal, [channel])).channels:
            raise Forbidden("This channel is not yours to read.")
        return await self._presence.of(channel)
