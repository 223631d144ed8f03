"""A deploy: a process says good-bye over a while, its clients come back elsewhere, and nobody notices a thing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from aiohttp.test_utils import unused_port
from redis.asyncio import Redis

from contracts import ids
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, TokenConfig
from matchday import config
from matchday.config import Config
from matchday.home import Home
from storage.db import Database
from storage.embedded import EmbeddedValkey
from streams.connection import Close, Connection
from streams.frames import WebSocketFraming
from streams.options import StreamOptions
from streams.relay import Relay
from tests.streams.harness import FAST, People, Server, SseClient, WsClient, emit, reached, serving, signed_up

USERS, STREAMS = 20, 10  # of each user, half of them on either transport
START_S, STOP_S = 30.0, 15.0
HOUR_S = 3600.0
PATHS = {"/ws": "/v1/realtime/ws", "/sse": "/v1/realtime/events"}


@dataclass
class Deployed:
    """One `matchday serve`, as it is deployed."""

    port: int
    process: Process
    session: ClientSession

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{PATHS.get(path, path)}"

    async def status(self, path: str, token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.get(self.url(path), headers=headers) as response:
            return response.status


@asynccontextmanager
async def matchday(environ: dict[str, str]) -> AsyncIterator[Deployed]:
    port = unused_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "matchday", "serve",
        env={**os.environ, **environ, "MATCHDAY_PORT": str(port)}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with ClientSession(connector=TCPConnector(limit=0)) as session:
            server = Deployed(port, process, session)

            async def ready() -> bool:
                try:
                    return await server.status("/health/ready") == 200
                except OSError:
                    return False

            await reached(ready, within_s=START_S, what="a process that is ready")
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def environ(database_dsn: str, redis: Redis, valkey: EmbeddedValkey, home: Path) -> dict[str, str]:
    home.mkdir()
    chosen = {"DATABASE_URL": database_dsn, "REDIS_URL": valkey.url, "PUBLIC_URL": "http://api.example"}
    return Home(home).environment(chosen)


def tokens_of(settings: Config, database: Database, users: list[str]) -> dict[str, str]:
    issuer = TokenConfig(issuer=settings.public_url, audience=settings.public_url, ttl_s=settings.token_ttl_s)
    tokens = AccessTokens(settings.token_keys, config=issuer, revocations=Revocations(database))
    now = datetime.now(UTC)
    return {
        user: tokens.issue(
            user_id=user,
            session_id=ids.new("ses"),
            scopes=("realtime:read",),
            at=now,
            until=now + timedelta(minutes=15),
        )
        for user in users
    }


@dataclass
class Watcher:
    """One client: its stream to the process that stops, and the one that it opens when it is told to."""

    user: str
    token: str
    old: WsClient | SseClient
    new: WsClient | SseClient | None = None
    ended_at: float = 0.0
    told: dict[str, object] = field(default_factory=dict)

    @classmethod
    async def open(cls, server: Server, user: str, token: str, transport: type[WsClient] | type[SseClient]) -> Watcher:
        return cls(user, token, await transport.open(server, token))

    async def follow(self, other: Server) -> None:
        await reached(self.old.reader.done, within_s=60, what="the end of the stream")
        self.ended_at = time.monotonic()
        [self.told] = self.old.of("going_away")
        if isinstance(self.old, WsClient):
            assert self.old.code == 4001
            self.new = await WsClient.open(other, self.token, cursor=self.old.cursor)
        else:
            assert self.old.retry_ms == self.told["reconnect_after_ms"]
            self.new = await SseClient.open(other, self.token, last_event_id=self.old.last_event_id)
        assert self.new.first["recovered"], self.new.first

    @property
    def event_ids(self) -> list[str]:
        return self.old.event_ids + (self.new.event_ids if self.new is not None else [])


async def write(database: Database, users: list[str], written: dict[str, list[str]], stopping: asyncio.Event) -> None:
    dice = random.Random(5)
    while not stopping.is_set():
        user = dice.choice(users)
        written[user] += await emit(database, signed_up(user))
        await asyncio.sleep(0.005)


async def test_two_hundred_clients_of_a_stopping_process_leave_one_by_one_and_miss_nothing(
    database: Database, relay: Relay, environ: dict[str, str]
) -> None:
    users = [ids.new("usr") for _ in range(USERS)]
    tokens = tokens_of(config.read(environ), database, users)
    options = StreamOptions()
    written: dict[str, list[str]] = {user: [] for user in users}
    stopping = asyncio.Event()
    async with matchday(environ) as leaving, matchday(environ) as staying:
        watchers = [
            await Watcher.open(leaving, user, tokens[user], (WsClient, SseClient)[number % 2])
            for user in users
            for number in range(STREAMS)
        ]
        writing = asyncio.create_task(write(database, users, written, stopping))
        await reached(lambda: all(watcher.old.event_ids for watcher in watchers), what="events for everybody")
        following = [asyncio.create_task(watcher.follow(staying)) for watcher in watchers]

        began = time.monotonic()
        leaving.process.send_signal(signal.SIGTERM)
        await reached(is_draining(leaving), within_s=1.0, what="a process that is not ready any more")
        assert sum(watcher.old.reader.done() for watcher in watchers) < len(watchers) / 2
        assert await leaving.status("/health/live") == 200
        assert await leaving.status("/sse", tokens[users[0]]) == 503
        assert await leaving.status("/v1/realtime/poll", tokens[users[0]]) == 503

        await asyncio.wait_for(leaving.process.wait(), options.drain_s + STOP_S)
        await asyncio.gather(*following)
        stopping.set()
        await writing
        await reached(
            lambda: all(len(watcher.event_ids) >= len(written[watcher.user]) for watcher in watchers),
            what="every event for everybody",
        )
        for watcher in watchers:
            assert watcher.event_ids == written[watcher.user]
        for watcher in watchers:
            assert watcher.new is not None
            await watcher.new.close()
    assert leaving.process.returncode == 0
    check_spread([watcher.ended_at - began for watcher in watchers], options.drain_s)
    check_reconnects([int(str(watcher.told["reconnect_after_ms"])) for watcher in watchers], options)


def is_draining(server: Deployed) -> Callable[[], object]:
    async def look() -> bool:
        return await server.status("/health/ready") == 503

    return look


def check_spread(ended_s: list[float], drain_s: float) -> None:
    """Evenly over the window: nowhere twice as many as there should be, and everywhere half of it."""
    fifths = Counter(min(4, int(5 * at / drain_s)) for at in ended_s)
    even = len(ended_s) / 5
    assert all(even / 2 <= fifths[fifth] <= 2 * even for fifth in range(5)), fifths
    assert max(ended_s) < drain_s + 2


def check_reconnects(after_ms: list[int], options: StreamOptions) -> None:
    """Each has a moment of its own, so that those who were told at once do not come back at once."""
    assert all(options.reconnect_min_ms <= each <= options.reconnect_max_ms for each in after_ms)
    assert len(set(after_ms)) > len(after_ms) * 0.9
    middle = (options.reconnect_min_ms + options.reconnect_max_ms) / 2
    assert 0.3 < sum(each < middle for each in after_ms) / len(after_ms) < 0.7


async def test_one_who_connects_too_late_is_not_kept_and_keeps_nobody(
    database: Database, redis: Redis, people: People
) -> None:
    """The socket was open before the process began to stop; the first message came after it had said good-bye."""
    async with serving(database, redis, people) as node:
        token, _ = people.sign_in()
        socket = await node.session.ws_connect(node.url("/ws"))
        late = WsClient(socket)
        await node.realtime.stop()
        await socket.send_json({"op": "connect", "token": token})
        await late.ended()
        assert (late.code, late.messages[0]["code"]) == (4010, "service.unavailable")
        assert node.realtime.open_streams == 0
        await node.realtime.start()


async def test_ten_thousand_streams_leave_as_evenly_as_ten(database: Database, redis: Redis, people: People) -> None:
    """No timer is as fine as the pause between two of them: those who wait for each in turn are late, or do not wait."""
    many, options = 10_000, replace(FAST, drain_s=2.0)
    async with serving(database, redis, people, options) as node:
        sessions, hub, loop = node.realtime._sessions, node.realtime._hub, asyncio.get_running_loop()
        principal = people.sign_in(lives_s=7200)[1]
        ended_s: list[float] = []

        def left(connection: Connection) -> None:
            ended_s.append(loop.time() - began)
            hub.remove(connection)
            sessions._closed.set()

        for _ in range(many):
            connection = Connection(principal, WebSocketFraming(), options, observe=None)
            connection.ended.add_done_callback(lambda _, gone=connection: left(gone))
            hub.add(connection, ())
        began = loop.time()
        await node.realtime.stop()
        assert len(ended_s) == many
        check_spread(ended_s, options.drain_s)
        await node.realtime.start()


async def test_a_process_without_streams_stops_at_once(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, drain_s=HOUR_S)) as node:
        began = time.monotonic()
        await node.realtime.stop()
        assert time.monotonic() - began < 5
        await node.realtime.start()


async def test_every_stream_is_rotated_in_its_own_time() -> None:
    options = StreamOptions()
    loop = asyncio.get_running_loop()
    principal = People().sign_in(lives_s=7200)[1]
    async with AsyncExitStack() as ending:
        lives_s = []
        for _ in range(500):
            connection = Connection(principal, WebSocketFraming(), options, observe=None)
            ending.callback(connection.end, Close.NORMAL)
            lives_s.append(connection._rotation.when() - loop.time())
    assert all(540 - 1 < life_s <= 660 for life_s in lives_s)
    assert min(lives_s) < 550
    assert max(lives_s) > 650
