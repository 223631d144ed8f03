"""What commits arrives on both transports, once and in the log's order, whatever happens to Redis meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from storage import redis as storage_redis
from storage.db import Database
from storage.embedded import EmbeddedValkey
from streams.relay import Relay
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
    settled,
    signed_up,
)

EVENTS = 2000


async def test_an_event_reaches_both_transports_byte_for_byte(database: Database, relay: Relay, node: Node) -> None:
    token, principal = node.people.sign_in()
    socket = await WsClient.open(node, token)
    stream = await SseClient.open(node, token)
    sent = await emit(database, signed_up(principal.user_id), signed_up(principal.user_id))

    await reached(lambda: len(socket.event_ids) == len(stream.event_ids) == 2)

    assert socket.event_ids == stream.event_ids == sent
    assert [message["event"] for message in socket.of("event")] == stream.events
    first, second = stream.events
    assert first["sequence"] < second["sequence"]
    assert stream.last_event_id == second["cursor"]
    await socket.close()
    await stream.close()


async def test_nobody_gets_what_is_not_theirs(database: Database, relay: Relay, node: Node) -> None:
    mine, me = node.people.sign_in()
    theirs, they = node.people.sign_in()
    sockets = [await WsClient.open(node, token) for token in (mine, theirs)]
    to_both = signed_up(me.user_id, channels=(f"user:{me.user_id}", f"user:{they.user_id}"))
    to_none = signed_up(me.user_id, channels=())
    only_mine, _, both = await emit(database, signed_up(me.user_id), to_none, to_both)
    await reached(lambda: all(both in socket.event_ids for socket in sockets))
    assert sockets[0].event_ids == [only_mine, both]
    assert sockets[1].event_ids == [both]
    for socket in sockets:
        await socket.close()


async def test_an_event_on_two_channels_of_a_stream_arrives_once(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in("wallet:x")
    socket = await WsClient.open(node, token)
    stream = await SseClient.open(node, token)
    twice = signed_up(me.user_id, channels=(f"user:{me.user_id}", "wallet:x", "wallet:x"))
    sent = await emit(database, twice, signed_up(me.user_id))
    await reached(lambda: sent[1] in socket.event_ids and sent[1] in stream.event_ids)
    assert socket.event_ids == stream.event_ids == sent
    await socket.close()
    await stream.close()


async def test_killing_every_subscription_during_a_run_loses_nothing(
    database: Database, redis: Redis, relay: Relay, node: Node
) -> None:
    """`CLIENT KILL TYPE pubsub` while 2,000 events are written: redis-py says nothing about what it missed."""
    token, me = node.people.sign_in()
    socket = await WsClient.open(node, token)
    stream = await SseClient.open(node, token)
    kills = 0

    async def kill() -> None:
        nonlocal kills
        while True:
            kills += await redis.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.15)

    killer = asyncio.create_task(kill())
    for _ in range(EVENTS // 10):
        await emit(database, *(signed_up(me.user_id) for _ in range(10)))
    killer.cancel()
    written = [entry.event_id for entry in await settled(database)]
    await reached(lambda: len(socket.event_ids) >= EVENTS and len(stream.event_ids) >= EVENTS)
    assert socket.event_ids == stream.event_ids == written
    assert len(written) == EVENTS
    assert kills > 3
    await socket.close()
    await stream.close()


async def test_without_redis_events_are_late_and_not_lost(database: Database, tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    await asyncio.to_thread(server.start)
    client = storage_redis.connect(server.url)
    try:
        async with serving(database, client, People()) as node, relaying(database, client):
            token, me = node.people.sign_in()
            socket = await WsClient.open(node, token)
            written = await emit(database, signed_up(me.user_id))
            await reached(lambda: socket.event_ids == written)
            await asyncio.to_thread(server.stop)
            written += await emit(database, signed_up(me.user_id))
            await reached(lambda: socket.event_ids == written, within_s=FAST.hub_poll_s + 2)
            await asyncio.to_thread(server.start)
            written += await emit(database, signed_up(me.user_id))
            await reached(lambda: socket.event_ids == written)
            await socket.close()
    finally:
        await client.aclose()
        await asyncio.to_thread(server.stop)
