"""A node (web process with Realtime), a relay, and clients on both transports, over real servers and sockets."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

import orjson
from aiohttp import ClientResponse, ClientSession, ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis

from contracts import ids
from contracts.errors import NotAuthenticated
from contracts.events import Event
from contracts.principal import Principal
from contracts.runtime.problem import Problem
from storage.db import Database
from streams import log, outbox
from streams.admission import Asked, PresenceDetail
from streams.log import LogEntry, Q
from streams.options import StreamOptions
from streams.realtime import Realtime
from streams.relay import Relay
from streams.schema import ContractBroken, MessageContract

DEADLINE_S = 15.0
SECRETS = ["test-secret-that-is-long-enough-for-a-cursor"]
CONTRACT = MessageContract.load()
# short where a test would only wait, as in production where the value is what is tested
FAST = StreamOptions(hub_poll_s=0.5, heartbeat_s=0.2, revocation_check_s=0.2, drain_s=0.0, relay_takeover_s=0.2)


async def reached(
    condition: Callable[[], Any | Awaitable[Any]], *, within_s: float = DEADLINE_S, what: str = ""
) -> None:
    """Return once the condition holds; fail at the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        held = condition()
        if inspect.isawaitable(held):
            held = await held
        if held:
            return
        assert loop.time() < deadline, f"not reached in {within_s} s: {what or condition}"
        await asyncio.sleep(0.01)


def user_id() -> str:
    return ids.new("usr")


def signed_up(user: str, **changes: Any) -> Event:
    """An event on a user's own channel that events.yaml describes."""
    fields: dict[str, Any] = {
        "type": "user.signed_up", "subject": user, "channels": (f"user:{user}",),
        "data": {"user_id": user, "verified_at": datetime.now(UTC).isoformat()},
    }  # fmt: skip
    return Event(**{**fields, **changes})


async def emit(database: Database, *events: Event) -> list[str]:
    """Commit events, in one transaction; their ids."""
    async with database.transaction() as conn:
        for event in events:
            await outbox.append(conn, event)
    return [event.id for event in events]


async def log_of(database: Database) -> list[LogEntry]:
    async with database.connection() as conn:
        _, entries = await log.follow(conn, after=0, page=10_000)
    return entries


async def settled(database: Database) -> list[LogEntry]:
    """The log once the outbox is empty."""

    async def empty() -> bool:
        async with database.connection() as conn:
            return not await Q.outbox_waiting(conn, shard=log.SHARD)

    await reached(empty, what="an empty outbox")
    return await log_of(database)


@dataclass
class People:
    """What an identity slice would know: tokens, rights, revocations."""

    tokens: dict[str, Principal] = field(default_factory=dict)
    readable: dict[str, set[str]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    fault: Exception | None = None  # what every question is answered with, when set
    asked_in_vain: int = 0

    def sign_in(self, *channels: str, user: str | None = None, lives_s: float = 900.0) -> tuple[str, Principal]:
        user = user or user_id()
        expires_at = datetime.now(UTC) + timedelta(seconds=lives_s)
        principal = Principal(user, ids.new("ses"), frozenset(), expires_at)
        token = ids.new("tok")
        self.tokens[token] = principal
        self.readable.setdefault(user, {f"user:{user}"}).update(channels)
        return token, principal

    async def authenticate(self, token: str) -> Principal:
        if token not in self.tokens:
            raise NotAuthenticated
        return self.tokens[token]

    def default_channels(self, user_id: str) -> frozenset[str]:
        return frozenset(self.readable[user_id])

    def is_withdrawable(self, channel: str) -> bool:
        return channel.startswith("activity:")

    def presence(self, channel: str) -> PresenceDetail | None:
        return {"activity": "members", "organisation": "count"}.get(channel.partition(":")[0])

    def _answer_or_fail(self) -> None:
        if self.fault is not None:
            self.asked_in_vain += 1
            raise self.fault

    async def readable_among(self, asked: Collection[Asked]) -> set[Asked]:
        self._answer_or_fail()
        return {(user_id, channel) for user_id, channel in asked if await self.may_read(user_id, channel)}

    async def may_read(self, user_id: str, channel: str) -> bool:
        return channel in self.readable[user_id]

    async def revoked_among(self, session_ids: frozenset[str]) -> Collection[str]:
        self._answer_or_fail()
        return session_ids & self.revoked


class Server(Protocol):
    """What a client connects to."""

    @property
    def session(self) -> ClientSession: ...

    def url(self, path: str) -> str: ...


class Node:
    """A web process: Realtime behind an HTTP server, and every message it sent held to the contract."""

    def __init__(self, database: Database, redis: Redis, people: People, options: StreamOptions, **server: Any) -> None:
        self.people = people
        self.violations: list[str] = []
        self.sent: set[str] = set()
        self.realtime = Realtime(
            database, redis, cursor_secrets=SECRETS, authenticate=people.authenticate, options=options,
            rights=people, revoked_among=people.revoked_among, observe=self._observe,
        )  # fmt: skip
        app = web.Application(middlewares=[_render_problem])
        app.router.add_get("/ws", self.realtime.websocket_handler)
        app.router.add_get("/sse", self._sse)
        app.router.add_get("/poll", self._poll)
        app.on_shutdown.append(self._stop)
        self.server = TestServer(app, **server)
        self.session = ClientSession()

    async def start(self) -> None:
        await self.realtime.start()
        await self.server.start_server()

    async def close(self) -> None:
        await self.session.close()
        await self.server.close()

    def url(self, path: str) -> str:
        return str(self.server.make_url(path))

    async def _stop(self, app: web.Application) -> None:
        await self.realtime.stop()

    async def _sse(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        principal = await self.people.authenticate(token) if token else None
        return await self.realtime.sse(request, principal)

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        """What the contract's runtime does for the operation: credentials, types and defaults of the query, JSON."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        ticket = request.query.get("ticket", "")
        principal = await (self.people.authenticate(token) if token else self.realtime.tickets.redeem(ticket))
        wait_s = float(request.query.get("wait_s", "25"))
        answer = await self.realtime.poll(request, principal, cursor=request.query.get("cursor"), wait_s=wait_s)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def _observe(self, transport: str, name: str, payload: bytes) -> None:
        self.sent.add(f"{transport} {name}")
        try:
            CONTRACT.check_sent(transport, name, payload)
        except ContractBroken as broken:
            self.violations.append(f"{transport} {broken}")


@web.middleware
async def _render_problem(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except Problem as problem:
        return web.json_response({"code": problem.code}, status=problem.status, headers=problem.headers)


class WsClient:
    """A WebSocket client that keeps all it was sent."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, node: Server, token: str | None = None, *, path: str = "/ws", **connect: Any) -> Self:
        client = cls(await node.session.ws_connect(node.url(path), max_msg_size=0))
        if token is not None or connect:
            message = {"op": "connect", **connect} if token is None else {"op": "connect", "token": token, **connect}
            await client.socket.send_json(message)
        await reached(lambda: client.messages or client.reader.done(), what="a first message")
        return client

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                self.messages.append(json.loads(message.data))

    def of(self, op: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["op"] == op]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [message["event"] for message in self.of("event")]

    @property
    def event_ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    @property
    def first(self) -> dict[str, Any]:
        return self.messages[0]

    @property
    def cursor(self) -> str:
        events = self.of("event")
        return events[-1]["event"]["cursor"] if events else self.first["cursor"]

    @property
    def code(self) -> int | None:
        return self.socket.close_code

    async def ended(self) -> None:
        await reached(self.reader.done, what="the end of the stream")

    async def close(self) -> None:
        await self.socket.close()
        await self.reader


class SseClient:
    """An EventSource that keeps all it was sent, and follows the rules for ids and reconnection times."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.blocks: list[dict[str, str]] = []
        self.comments = 0
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, node: Server, token: str | None = None, *, last_event_id: str | None = None, **query: str
    ) -> Self:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        response = await node.session.get(node.url("/sse"), headers=headers, params=query)
        client = cls(response)
        if response.status == 200:
            await reached(lambda: client.blocks or client.reader.done(), what="a first block")
        return client

    async def _read(self) -> None:
        block: dict[str, str] = {}
        with suppress(ConnectionError):
            async for raw in self.response.content:
                line = raw.decode().rstrip("\r\n")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                else:
                    self._dispatch(block)
                    block = {}

    def _dispatch(self, block: dict[str, str]) -> None:
        self.last_event_id = block.get("id", self.last_event_id)
        if "retry" in block:
            self.retry_ms = int(block["retry"])
        if "data" in block:
            self.blocks.append(block)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(block["data"]) for block in self.blocks if block["event"] == name]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(block["data"]) for block in self.blocks if "." in block["event"]]

    @property
    def event_ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    @property
    def first(self) -> dict[str, Any]:
        assert self.blocks[0]["event"] == "ready"
        return dict(json.loads(self.blocks[0]["data"]))

    async def ended(self) -> None:
        await reached(self.reader.done, what="the end of the stream")

    async def close(self) -> None:
        self.response.close()
        self.reader.cancel()
        await asyncio.gather(self.reader, return_exceptions=True)


@asynccontextmanager
async def relaying(database: Database, redis: Redis, options: StreamOptions = FAST) -> AsyncIterator[Relay]:
    """A relay for the length of the block."""
    relay = Relay(database, redis, options)
    running = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def serving(
    database: Database, redis: Redis, people: People, options: StreamOptions = FAST, **server: Any
) -> AsyncIterator[Node]:
    """A node for the length of the block; at the end, all it sent must have been in the contract."""
    node = Node(database, redis, people, options, **server)
    await node.start()
    try:
        yield node
    finally:
        await node.close()
    assert node.violations == []
