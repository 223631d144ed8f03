"""The hub when the ground moves: the log replaced, cut, or unreadable."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import psycopg
import pytest
from redis.asyncio import Redis

from contracts.errors import StorageBusy
from storage.db import Database
from storage.embedded import EmbeddedPostgres
from streams import log, outbox
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


async def both_streams(node: Node) -> tuple[WsClient, SseClient, str]:
    token, me = node.people.sign_in()
    return await WsClient.open(node, token), await SseClient.open(node, token), me.user_id


async def both_told_insufficient_state(socket: WsClient, stream: SseClient) -> None:
    await socket.ended()
    assert socket.code == 4010
    await stream.ended()
    assert stream.of("going_away")[0]["reason"] == "insufficient_state"


async def test_a_new_lifetime_of_the_log_ends_every_stream(database: Database, relay: Relay, node: Node) -> None:
    socket, stream, _ = await both_streams(node)
    async with database.transaction() as conn:
        await log.renew_epoch(conn)
    await both_told_insufficient_state(socket, stream)
    # and the next ones stand in the new lifetime
    again, stream, user = await both_streams(node)
    sent = await emit(database, signed_up(user))
    await reached(lambda: again.event_ids == stream.event_ids == sent)
    await again.close()
    await stream.close()


async def test_a_log_that_went_back_ends_every_stream(database: Database, redis: Redis, people: People) -> None:
    """A backup was restored under a running process."""
    async with serving(database, redis, people) as node:
        async with relaying(database, redis):
            socket, stream, user = await both_streams(node)
            sent = await emit(database, signed_up(user), signed_up(user))
            await reached(lambda: socket.event_ids == stream.event_ids == sent)
        async with database.connection() as conn:
            await conn.raw.execute("DELETE FROM event_log WHERE position = 2")
            await conn.raw.execute("UPDATE event_log_shards SET head = 1")
        await both_told_insufficient_state(socket, stream)


async def test_a_hole_in_front_of_a_node_is_not_stepped_over(database: Database, redis: Redis, people: People) -> None:
    """The node slept so long that what comes next for it was cut off."""
    async with serving(database, redis, people) as node:
        socket, stream, user = await both_streams(node)
        async with database.transaction() as conn:
            # the log grows and is cut in one moment
            await outbox.append(conn, signed_up(user))
            await outbox.append(conn, signed_up(user))
            await Relay(database, redis, FAST)._move(conn)
            await conn.raw.execute("DELETE FROM event_log WHERE position = 1")
        await both_told_insufficient_state(socket, stream)
        assert socket.event_ids == []


async def test_a_database_that_is_away_makes_events_late_and_ends_no_stream(
    database: Database, database_dsn: str, postgres: EmbeddedPostgres, relay: Relay, node: Node
) -> None:
    socket, stream, user = await both_streams(node)
    name = urlsplit(database_dsn).path[1:]
    sent = await emit(database, signed_up(user))
    await reached(lambda: socket.event_ids == stream.event_ids == sent)
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            for _ in range(5):
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            await reached(lambda: not relay.leading)
            with pytest.raises(StorageBusy):
                await node.realtime._hub.refresh()
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await reached(lambda: relay.leading)
    sent += await emit(database, signed_up(user))
    await reached(lambda: socket.event_ids == stream.event_ids == sent)
    await socket.close()
    await stream.close()


async def test_a_log_replaced_while_a_stream_opens_is_not_continued(
    database: Database, redis: Redis, people: People
) -> None:
    """The stream stood in the old log; a welcome would seal its old position into the new one."""
    asleep = replace(FAST, hub_poll_s=3600.0, heartbeat_s=3600.0)
    for transport in ("websocket", "sse"):
        async with serving(database, redis, people, asleep) as node:
            hub = node.realtime._hub
            await reached(lambda hub=hub: hub._wakeups.resubscribed == 2)
            await hub.refresh()
            # from here on nothing tells this node of the new lifetime but the look that a cursor from ahead asks for
            ahead = hub.cursor_at(1)
            async with database.transaction() as conn:
                await log.renew_epoch(conn)
            token, _ = people.sign_in()
            if transport == "websocket":
                socket = await WsClient.open(node, token, cursor=ahead)
                await socket.ended()
                assert (socket.code, socket.of("welcome")) == (4010, [])
            else:
                stream = await SseClient.open(node, token, last_event_id=ahead)
                assert stream.response.status == 503
                await stream.close()


async def test_a_wakeup_that_is_nonsense_costs_nothing(
    database: Database, redis: Redis, relay: Relay, node: Node
) -> None:
    socket, stream, user = await both_streams(node)
    for nonsense in (b"", b"{", b"[]", b'{"last": "x"}', b"\xff"):
        await redis.publish("streams:log:0", nonsense)
    sent = await emit(database, signed_up(user))
    await reached(lambda: socket.event_ids == stream.event_ids == sent)
    await socket.close()
    await stream.close()


async def test_events_reach_clients_quickly(database: Database, redis: Redis, people: People) -> None:
    """Far below the relay's and the hub's timers: the wake-ups do work."""
    async with (
        serving(database, redis, people, replace(FAST, hub_poll_s=60.0)) as node,
        relaying(database, redis, replace(FAST, relay_poll_s=60.0)) as relay,
    ):
        await reached(lambda: relay.leading)
        socket, stream, user = await both_streams(node)

        async def woken() -> bool:
            await emit(database, signed_up(user))
            await outbox.poke(redis)
            return bool(socket.event_ids and stream.event_ids)

        await reached(woken)
        known = len(await settled(database))
        await emit(database, signed_up(user))
        await outbox.poke(redis)
        await reached(lambda: len(socket.event_ids) > known and len(stream.event_ids) > known, within_s=2)
        await socket.close()
        await stream.close()
