"""Presence: who is there on all nodes, told to both transports; and that neither deaths nor Redis make it lie."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse
from aiohttp.test_utils import unused_port
from redis.asyncio import Redis

from contracts import ids
from contracts.errors import Forbidden, Unavailable
from storage import redis as storage_redis
from storage.db import Database
from storage.embedded import EmbeddedValkey
from streams.options import StreamOptions
from streams.presence import MAX_MEMBERS, NODES, Attendance, NoPresence, Register
from tests.streams.harness import (
    FAST,
    Node,
    People,
    SseClient,
    WsClient,
    emit,
    reached,
    relaying,
    serving,
    signed_up,
    user_id,
)
from tests.streams.roles import Told

QUICK = replace(FAST, presence_tick_s=0.05, presence_heartbeat_s=0.2, presence_ttl_s=1.0)
Client = WsClient | SseClient


def activity() -> str:
    return f"activity:{ids.new('act')}"


@asynccontextmanager
async def two_nodes(
    database: Database, redis: Redis, people: People, options: StreamOptions = QUICK
) -> AsyncIterator[tuple[Node, Node]]:
    async with serving(database, redis, people, options) as one, serving(database, redis, people, options) as two:
        yield one, two


def told(client: Client) -> list[tuple[int, list[str] | None]]:
    """What a client was told of the one channel that it has."""
    return [(message["count"], message.get("members")) for message in client.of("presence")]


def now(client: Client) -> tuple[int, list[str] | None] | None:
    return told(client)[-1] if told(client) else None


def everybody(*users: Any) -> tuple[int, list[str]]:
    found = sorted({user if isinstance(user, str) else user.user_id for user in users})
    return len(found), found


async def test_people_are_counted_once_on_all_nodes_and_both_transports(
    database: Database, redis: Redis, people: People
) -> None:
    game = activity()
    (first, a), (second, b) = people.sign_in(game), people.sign_in(game)
    async with two_nodes(database, redis, people) as (one, two):
        socket = await WsClient.open(one, first, channels=[game])
        await reached(lambda: told(socket) == [everybody(a)])
        again = await WsClient.open(two, first, channels=[game])
        stream = await SseClient.open(two, second, channels=game)
        for client in (socket, again, stream):
            await reached(lambda client=client: now(client) == everybody(a, b))
        assert await one.realtime.presence(b, game) == Attendance(2, everybody(a, b)[1])
        assert "id" not in next(block for block in stream.blocks if block["event"] == "presence")

        await again.close()  # one of two streams of the same person
        await stream.close()
        await reached(lambda: now(socket) == everybody(a))
        await socket.socket.send_json({"op": "unsubscribe", "channels": [game]})

        async def nobody() -> bool:
            return await two.realtime.presence(a, game) == Attendance(0, [])

        await reached(nobody)
        await socket.close()


async def test_what_comes_with_a_subscription_is_the_state_and_then_only_changes(
    database: Database, redis: Redis, people: People
) -> None:
    game = activity()
    (first, a), (second, b) = people.sign_in(game), people.sign_in(game)
    async with serving(database, redis, people, QUICK) as node:
        early = await WsClient.open(node, first, channels=[game])
        await reached(lambda: now(early) == everybody(a))
        late = await WsClient.open(node, second, channels=[])
        await late.socket.send_json({"op": "subscribe", "channels": [game]})
        await reached(lambda: now(late) == everybody(a, b))
        twin = await WsClient.open(node, second, channels=[game])  # nothing has changed: only this one is told
        await reached(lambda: now(twin) == everybody(a, b))
        assert told(early) == [everybody(a), everybody(a, b)]
        assert told(late) == told(twin) == [everybody(a, b)]
        for client in (early, late, twin):
            await client.close()


async def test_a_crowd_that_comes_together_is_told_at_most_once_a_tick(
    database: Database, redis: Redis, people: People
) -> None:
    assert StreamOptions().presence_tick_s == 1.0
    game = activity()
    tick_s = 0.4
    async with serving(database, redis, people, replace(QUICK, presence_tick_s=tick_s)) as node:
        watcher = await WsClient.open(node, people.sign_in(game)[0], channels=[game])
        await reached(lambda: now(watcher) is not None)
        loop = asyncio.get_running_loop()
        began, before = loop.time(), len(told(watcher))
        crowd = [await WsClient.open(node, people.sign_in(game)[0], channels=[game]) for _ in range(30)]
        await reached(lambda: now(watcher) is not None and now(watcher)[0] == 31)  # type: ignore[index]
        assert len(told(watcher)) - before <= (loop.time() - began) / tick_s + 1
        for client in (watcher, *crowd):
            await client.close()


@pytest.mark.parametrize("more", [0, 1])
async def test_above_a_hundred_people_only_the_count_is_told(
    database: Database, redis: Redis, people: People, more: int
) -> None:
    game = activity()
    token, me = people.sign_in(game)
    crowd = frozenset(user_id() for _ in range(MAX_MEMBERS - 1 + more))
    async with serving(database, redis, people, QUICK) as node:
        await Register(redis, replace(QUICK, presence_ttl_s=60.0)).write({game: crowd})
        client = await SseClient.open(node, token, channels=game)
        await reached(lambda: now(client) is not None)
        assert now(client) == ((101, None) if more else everybody(me, *crowd))
        there = await node.realtime.presence(me, game)
        assert (there.count, there.is_truncated) == (100 + more, bool(more))
        assert there.members == sorted(there.members or ())
        assert len(set(there.members or ()) & {me.user_id, *crowd}) == MAX_MEMBERS
        await client.close()


async def test_where_only_a_count_is_told_nobody_is_named(database: Database, redis: Redis, people: People) -> None:
    club = f"organisation:{ids.new('org')}"
    (first, me), (second, _) = people.sign_in(club), people.sign_in(club)
    async with serving(database, redis, people, QUICK) as node:
        client, other = [await WsClient.open(node, token, channels=[club]) for token in (first, second)]
        await reached(lambda: now(client) == now(other) == (2, None))
        assert await node.realtime.presence(me, club) == Attendance(2, None)
        await client.close()
        await other.close()


async def test_presence_is_for_those_who_may_read_and_for_channels_that_tell(node: Node) -> None:
    game = activity()
    _, me = node.people.sign_in(game)
    _, other = node.people.sign_in("payment:a")
    with pytest.raises(Forbidden):
        await node.realtime.presence(other, game)
    with pytest.raises(NoPresence):
        await node.realtime.presence(other, "payment:a")
    assert await node.realtime.presence(me, game) == Attendance(0, [])


async def test_the_people_of_a_node_that_died_vanish_and_one_that_restarted_counts_once(
    database: Database, redis: Redis, people: People
) -> None:
    options = StreamOptions()
    assert options.presence_ttl_s + options.presence_heartbeat_s + options.presence_tick_s <= 15.0
    game = activity()
    token, me = people.sign_in(game)
    gone, back = user_id(), user_id()
    await Register(redis, QUICK).write({game: frozenset({gone, back})})
    await Register(redis, QUICK).write({game: frozenset({back})})
    async with serving(database, redis, people, QUICK) as node:
        client = await WsClient.open(node, token, channels=[game])
        await reached(lambda: now(client) == everybody(me, gone, back))
        loop = asyncio.get_running_loop()
        began = loop.time()
        await reached(lambda: now(client) == everybody(me))
        assert loop.time() - began <= QUICK.presence_ttl_s + 0.5
        await client.close()
    assert await redis.keys(f"{NODES}*") == []  # a node that stops takes its people with it


@asynccontextmanager
async def node_process(told_to: Told) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*told_to.command("node"), stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_process_that_is_killed_takes_its_people_with_it(
    database: Database, redis: Redis, valkey: EmbeddedValkey, people: People
) -> None:
    game = activity()
    token, me = people.sign_in(game)
    port = unused_port()
    told_to = Told(name="killed", dsn=database.dsn, redis_url=valkey.url, port=port)
    async with (
        node_process(told_to) as process,
        serving(database, redis, people, StreamOptions(drain_s=0.0)) as node,
    ):
        client = await WsClient.open(node, token, channels=[game])
        async with ClientSession() as session:
            socket: ClientWebSocketResponse | None = None

            async def connected() -> bool:
                nonlocal socket
                with suppress(ClientError):
                    socket = await session.ws_connect(f"http://127.0.0.1:{port}/ws")
                return socket is not None

            await reached(connected)
            assert socket is not None
            await socket.send_json({"op": "connect", "token": "anybody", "channels": [game]})
            await reached(lambda: now(client) is not None and now(client)[0] == 2)  # type: ignore[index]
            process.kill()
            await process.wait()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await reached(lambda: now(client) == everybody(me), within_s=30.0)
            assert loop.time() - began <= 15.0
            await socket.close()
        await client.close()


async def test_the_living_stay_however_long_nothing_changes(database: Database, redis: Redis, people: People) -> None:
    game = activity()
    (first, a), (second, b) = people.sign_in(game), people.sign_in(game)
    async with two_nodes(database, redis, people) as (one, two):
        client, other = (
            await WsClient.open(one, first, channels=[game]),
            await WsClient.open(two, second, channels=[game]),
        )
        await reached(lambda: now(client) == everybody(a, b))
        count = len(told(client))
        deadline = asyncio.get_running_loop().time() + 2.5 * QUICK.presence_ttl_s
        await reached(lambda: asyncio.get_running_loop().time() > deadline)
        assert len(told(client)) == count
        await client.close()
        await other.close()


async def test_one_who_comes_after_a_quiet_while_is_told_as_usual(
    redis: Redis,
) -> None:
    """A node on which nobody had been for a while took its own expired name for a loss of everything."""
    game, user = activity(), user_id()
    register = Register(redis, replace(QUICK, presence_ttl_s=0.5))
    await register.write({game: frozenset({user})})
    await register.write({})

    async def expired() -> bool:
        return not await redis.exists(NODES)

    await reached(expired)
    await register.write({})
    await register.write({game: frozenset({user})})
    assert await register.read({game: "members"}) == {game: Attendance(1, [user])}


async def test_redis_that_forgot_everything_makes_nobody_leave(
    database: Database, redis: Redis, people: People
) -> None:
    game = activity()
    (first, a), (second, b) = people.sign_in(game), people.sign_in(game)
    async with two_nodes(database, redis, people) as (one, two):
        client, other = (
            await WsClient.open(one, first, channels=[game]),
            await WsClient.open(two, second, channels=[game]),
        )
        await reached(lambda: now(client) == now(other) == everybody(a, b))
        heard = len(told(client)), len(told(other))
        for _ in range(5):
            await redis.flushdb()
            await reached(lambda: _known(one, a, game, 2))
        assert (len(told(client)), len(told(other))) == heard
        third = await WsClient.open(one, people.sign_in(game)[0], channels=[game])
        await reached(lambda: now(client) is not None and now(client)[0] == 3)  # type: ignore[index]
        for each in (client, other, third):
            await each.close()


async def _known(node: Node, principal: Any, channel: str, count: int) -> bool:
    try:
        return (await node.realtime.presence(principal, channel)).count == count
    except Unavailable:
        return False


async def test_without_redis_presence_is_unknown_and_events_flow(
    database: Database, people: People, tmp_path: Path
) -> None:
    server = EmbeddedValkey(tmp_path / "data")
    server.start()
    redis = storage_redis.connect(server.url)
    game = activity()
    token, me = people.sign_in(game)
    try:
        async with relaying(database, redis), serving(database, redis, people, QUICK) as node:
            client = await WsClient.open(node, token, channels=[game])
            await reached(lambda: now(client) == everybody(me))
            server.stop()

            async def unknown() -> bool:
                return not await _known(node, me, game, 1)

            await reached(unknown)
            sent = await emit(database, signed_up(me.user_id, channels=(game,)))
            await reached(lambda: client.event_ids == sent)
            assert told(client) == [everybody(me)]

            server.start()
            await reached(lambda: _known(node, me, game, 1))
            other = await WsClient.open(node, people.sign_in(game)[0], channels=[game])
            await reached(lambda: now(client) is not None and now(client)[0] == 2)  # type: ignore[index]
            assert [count for count, _ in told(client)] == [1, 2]
            await client.close()
            await other.close()
    finally:
        await redis.aclose()
        server.stop()
