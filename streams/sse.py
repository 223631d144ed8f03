"""Server-Sent Events: aiohttp-sse for the response (headers, comment pings, TCP_USER_TIMEOUT), our bytes in it.

aiohttp-sse encodes every event again for every client; here its response is only opened, and the blocks that the hub
has framed once are written as they are. Source: WHATWG HTML §9.2.
"""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from contracts.errors import NotAuthenticated
from streams.admission import wanted_channels
from streams.connection import Close, Connection, Ending, Principal
from streams.frames import SseFraming, sse_block
from streams.outlet import Outlet
from streams.session import Opened, Sessions


class EventStreams:
    """The handler of an event stream."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._options = sessions.options

    async def __call__(self, request: web.Request, principal: Principal | None) -> web.StreamResponse:
        """Stream until the client leaves or the stream ends. Without a principal, a `ticket` in the query opens it.

        Raises a Problem before the first byte: NotAuthenticated, InvalidParameter, StorageBusy, Unavailable.
        """
        with self._sessions.place():
            wanted = wanted_channels(request, self._options)
            principal = principal or await self._by_ticket(request)
            framing = SseFraming(chunked=request.version >= HttpVersion11)
            cursor = request.headers.get("Last-Event-ID", request.query.get("last_event_id"))
            connection = Connection(principal, framing, self._options, observe=self._sessions.observe)
            async with self._sessions.open(connection, wanted, cursor) as opened:
                return await self._stream(request, opened)

    async def _by_ticket(self, request: web.Request) -> Principal:
        ticket = request.query.get("ticket")
        if not ticket:
            raise NotAuthenticated("A token or a ticket is needed.")
        return await self._sessions.admission.by_ticket(ticket)

    async def _stream(self, request: web.Request, opened: Opened) -> web.StreamResponse:
        options = self._options
        response = EventSourceResponse(ping_interval=options.ping_s, send_timeout=options.write_deadline_s)
        connection = opened.connection
        try:
            writer = await response.prepare(request)
            async with response:
                # the first write carries the headers with it; all later ones go past the response
                await response.write(sse_block(None, retry=connection.reconnect_after_ms()))
                if writer is not None:
                    outlet = Outlet(request.protocol, writer, options, lambda: connection.end(Close.SLOW))
                    connection.go_live(outlet, "ready", opened.body, opened.backlog)
                    # shielded: a handler that is cancelled here must not take the connection's ending with it
                    ending = await asyncio.shield(connection.ended)
                    await self._say_goodbye(connection, outlet, ending)
        except ConnectionError:
            pass  # the client left: while its stream was being opened, or while a ping waited for it
        return response

    async def _say_goodbye(self, connection: Connection, outlet: Outlet, ending: Ending) -> None:
        if ending.close not in (Close.SLOW, Close.NORMAL):
            connection.send("going_away", ending.json())
        if not await outlet.drained():
            outlet.abort()
