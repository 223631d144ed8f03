"""WebSocket: one multiplexed stream with a say in its channels. Messages: contracts/events.yaml.

Outgoing frames are built once for all receivers and written past aiohttp's writer; incoming ones are held to the
contract before anything looks into them. No compression: with a context per connection nothing could be shared.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson
from aiohttp import WSMessage, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from contracts.errors import Forbidden
from contracts.runtime.problem import Problem
from streams import metrics
from streams.admission import wanted_channels
from streams.connection import Close, Connection, Ending, Principal
from streams.frames import WebSocketFraming, close_frame, encode
from streams.outlet import Outlet
from streams.schema import CLIENT_OPS, MessageContract
from streams.session import Opened, Sessions
from streams.tickets import TicketHolder

logger = logging.getLogger(__name__)

WRITER_LIMIT = 64 * 1024


class Refused(Exception):
    """The stream ends with a code, after an error message when there is something to say."""

    def __init__(self, close: Close, error: dict[str, Any] | None = None) -> None:
        super().__init__(close.reason)
        self.close = close
        self.error = error


class UpgradeRequired(Problem):
    """A plain request for the WebSocket."""

    status, code, title = 426, "realtime.upgrade_required", "An upgrade to WebSocket is required"


class WebSockets:
    """The handler of a WebSocket."""

    def __init__(self, sessions: Sessions, contract: MessageContract) -> None:
        self._sessions = sessions
        self._options = sessions.options
        self._contract = contract

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, let in, serve. Raises Forbidden (foreign Origin), UpgradeRequired, InvalidParameter, Unavailable."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._options.allowed_origins:
            raise Forbidden("This origin may not open a stream.")
        with self._sessions.place():
            return await self._upgraded(request, wanted_channels(request, self._options))

    async def _upgraded(self, request: web.Request, wanted: list[str] | None) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            compress=False, writer_limit=WRITER_LIMIT, heartbeat=self._options.ping_s,
            timeout=self._options.close_grace_s,
            max_msg_size=self._options.max_message_bytes + 1,  # from this size on aiohttp refuses
        )  # fmt: skip
        if not socket.can_prepare(request):
            raise UpgradeRequired("Connect with an upgrade (RFC 6455).", headers={"Upgrade": "websocket"})
        writer = await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        try:
            await self._admit_and_serve(request, socket, writer, wanted)
        finally:
            # whatever happened: nothing stays in a transport that nobody reads
            transport.abort()
        return socket

    async def _admit_and_serve(
        self, request: web.Request, socket: web.WebSocketResponse, writer: AbstractStreamWriter,
        wanted: list[str] | None,
    ) -> None:  # fmt: skip
        try:
            ticket = request.query.get("ticket")
            if ticket:
                principal = await self._sessions.admission.by_ticket(ticket)
                cursor = request.query.get("cursor")
            else:
                principal, wanted, cursor = await self._connect(socket)
            connection = Connection(principal, WebSocketFraming(), self._options, observe=self._sessions.observe)
            async with self._sessions.open(connection, wanted, cursor) as opened:
                await self._serve(request, socket, writer, opened)
        except Refused as refused:
            await self._refuse(socket, refused)
        except Problem as problem:
            await self._refuse(socket, Refused(_close_for(problem), _error(problem)))
        except Exception:
            logger.exception("streams.open_failed")
            await self._refuse(socket, Refused(Close.INTERNAL))

    async def _connect(self, socket: web.WebSocketResponse) -> tuple[Principal, list[str] | None, str | None]:
        """Wait for the first message and check the credentials in it."""
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                message = self._parse(await socket.receive())
        except TimeoutError:
            raise Refused(Close.PROTOCOL, _protocol_error("realtime.connect_expected", "No connect came")) from None
        if message["op"] != "connect":
            raise Refused(Close.PROTOCOL, _protocol_error("realtime.connect_expected", "The first message is connect"))
        admission = self._sessions.admission
        if "token" in message:
            principal = await admission.by_token(message["token"])
        else:
            principal = await admission.by_ticket(message["ticket"])
        return principal, message.get("channels"), message.get("cursor")

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, writer: AbstractStreamWriter, opened: Opened
    ) -> None:
        connection = opened.connection
        outlet = Outlet(request.protocol, writer, self._options, lambda: connection.end(Close.SLOW))
        connection.go_live(outlet, "welcome", opened.body, opened.backlog)
        reading = asyncio.create_task(self._read(socket, connection), name="streams.read")
        try:
            ending = await asyncio.shield(connection.ended)
            await self._say_goodbye(socket, connection, outlet, ending, reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _say_goodbye(
        self, socket: web.WebSocketResponse, connection: Connection, outlet: Outlet, ending: Ending,
        reading: asyncio.Task[None],
    ) -> None:  # fmt: skip
        if ending.close is Close.NORMAL:
            return
        if ending.close is Close.SLOW:
            outlet.close_slow(close_frame(Close.SLOW, Close.SLOW.reason))
            await asyncio.wait({reading}, timeout=self._options.close_grace_s)
            return
        if ending.close is Close.GOING_AWAY:
            connection.send("going_away", ending.json())
        if await outlet.drained():
            await self._close(socket, ending.close)

    async def _refuse(self, socket: web.WebSocketResponse, refused: Refused) -> None:
        if refused.error is not None and not socket.closed:
            try:
                async with asyncio.timeout(self._options.close_grace_s):
                    await socket.send_str(encode({"op": "error", **refused.error}).decode())
            except (TimeoutError, ConnectionError):
                return
        await self._close(socket, refused.close)

    async def _close(self, socket: web.WebSocketResponse, close: Close) -> None:
        try:
            async with asyncio.timeout(self._options.close_grace_s):
                await socket.close(code=close, message=close.reason.encode())
        except TimeoutError:
            pass  # the transport is aborted next

    async def _read(self, socket: web.WebSocketResponse, connection: Connection) -> None:
        """Carry out the client's messages until it leaves; the only reader of the socket."""
        received: deque[float] = deque(maxlen=self._options.message_limit)
        try:
            async for message in socket:
                self._count(received)
                await self._carry_out(self._parse(message), connection)
        except Refused as refused:
            if refused.error is not None:
                connection.send("error", refused.error)
            connection.end(refused.close)
        except Exception:
            logger.exception("streams.read_failed")
            connection.end(Close.INTERNAL)
        finally:
            connection.end(Close.NORMAL)

    def _count(self, received: deque[float]) -> None:
        now = asyncio.get_running_loop().time()
        if len(received) == received.maxlen and now - received[0] < self._options.message_window_s:
            raise Refused(Close.LIMIT, _protocol_error("realtime.too_many_messages", "Too many messages"))
        received.append(now)

    def _parse(self, message: WSMessage) -> dict[str, Any]:
        """Hold a client's message to the contract."""
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            raise Refused(Close.NORMAL)
        if message.type is not WSMsgType.TEXT:
            raise Refused(Close.PROTOCOL, _protocol_error("contract.message", "Messages are text"))
        try:
            body = orjson.loads(message.data)
        except orjson.JSONDecodeError:
            raise Refused(Close.PROTOCOL, _protocol_error("contract.json", "The message is not valid JSON")) from None
        op = body.get("op") if isinstance(body, dict) else None
        if not isinstance(op, str) or op not in CLIENT_OPS:
            raise Refused(Close.PROTOCOL, _protocol_error("contract.message", "The message has no known op"))
        faults = self._contract.faults(op, body)
        if faults:
            error = _protocol_error("contract.message", "The message does not match the contract")
            raise Refused(Close.PROTOCOL, {**error, "errors": [asdict(fault) for fault in faults]})
        return dict(body)

    async def _carry_out(self, message: dict[str, Any], connection: Connection) -> None:
        hub = self._sessions.hub
        try:
            match message["op"]:
                case "ping":
                    connection.cursor_sent_at = hub.position
                    self._tell_cursor(connection, "pong", {})
                case "subscribe":
                    await self._subscribe(connection, message["channels"])
                case "unsubscribe":
                    for channel in message["channels"]:
                        hub.unsubscribe(connection, channel)
                    self._tell_cursor(connection, "subscribed", _standing(connection, ()))
                case "refresh":
                    with metrics.REFRESHES.labels("refused").count_exceptions():
                        await self._refresh(connection, message["token"])
                    metrics.REFRESHES.labels("renewed").inc()
                case _:
                    raise Refused(Close.PROTOCOL, _protocol_error("realtime.already_open", "The stream is open"))
        except Problem as problem:
            connection.send("error", _error(problem))

    async def _subscribe(self, connection: Connection, wanted: list[str]) -> None:
        grant = await self._sessions.admission.grant(connection.principal, wanted)
        if len(connection.channels | grant.channels) > self._options.max_channels:
            limit = f"A stream has at most {self._options.max_channels} channels"
            connection.send("error", _protocol_error("realtime.too_many_channels", limit))
            return
        for channel in grant.channels:
            self._sessions.hub.subscribe(connection, channel)
        self._tell_cursor(connection, "subscribed", _standing(connection, grant.refused))

    async def _refresh(self, connection: Connection, token: str) -> None:
        """Go on with a new token of the same user; what it may not read any more is left and named."""
        admission = self._sessions.admission
        principal = await admission.by_token(token)
        if principal.user_id != connection.principal.user_id:
            raise Refused(Close.TOKEN_INVALID, _protocol_error("realtime.another_user", "The token is another user's"))
        await admission.refuse_revoked(principal)
        principal = _as_narrow(principal, connection.principal)
        grant = await admission.grant(principal, sorted(connection.channels))
        for channel in grant.refused:
            self._sessions.hub.unsubscribe(connection, channel)
        connection.renew(principal)
        body = {"ttl_s": connection.ttl_s, **_standing(connection, grant.refused)}
        self._tell_cursor(connection, "refreshed", body)

    def _tell_cursor(self, connection: Connection, op: str, body: dict[str, Any]) -> None:
        """Say something with the cursor of what this process has seen; only to those who have been sent all of it.

        A stream that is about to end is sent no more events: with a newer cursor it would come back and miss some.
        """
        if not connection.ended.done():
            connection.send(op, {**body, "cursor": self._sessions.hub.cursor})


def _standing(connection: Connection, refused: Sequence[str]) -> dict[str, Any]:
    return {"channels": sorted(connection.channels), "refused": refused}


def _as_narrow(principal: Principal, before: Principal) -> Principal:
    """A token renews how long the stream of a narrow ticket lasts, and not what it may carry."""
    if isinstance(before, TicketHolder) and before.channels is not None:
        return replace(before, session_id=principal.session_id, expires_at=principal.expires_at)
    return principal


def _close_for(problem: Problem) -> Close:
    codes = {400: Close.PROTOCOL, 401: Close.TOKEN_INVALID, 403: Close.FORBIDDEN, 429: Close.LIMIT}
    return codes.get(problem.status, Close.INSUFFICIENT_STATE)


def _error(problem: Problem) -> dict[str, Any]:
    return _protocol_error(problem.code, problem.title)


def _protocol_error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}
