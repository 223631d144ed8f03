"""What is done once for many: a write for many events, a read for many who come back, a start for all of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from contracts.events import Event
from storage.db import Database
from streams.outlet import Outlet
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

CLIENTS = 60


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"matchday_{name}_total", labels) or 0.0


def on_both(user: str) -> Event:
    return signed_up(user, channels=(f"user:{user}", f"wallet:{user}"))


async def test_events_that_are_seen_together_are_one_write(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people) as node:
        token, me = people.sign_in()
        socket, stream = await WsClient.open(node, token), await SseClient.open(node, token)
        sent = await emit(database, *(signed_up(me.user_id) for _ in range(50)))
        before = {transport: counted("writes", transport=transport) for transport in ("websocket", "sse")}
        async with relaying(database, redis):  # one batch of the relay, one look of the hub
            await reached(lambda: socket.event_ids == stream.event_ids == sent)
        for transport, written in before.items():
            assert counted("writes", transport=transport) == written + 1
        await socket.close()
        await stream.close()


async def test_events_of_several_channels_come_once_and_in_the_order_of_the_log(
    database: Database, redis: Redis, people: People
) -> None:
    """Seen together, on channels that overlap differently for each client."""
    async with serving(database, redis, people) as node:
        _, me = people.sign_in()
        _, other = people.sign_in()
        mine, theirs = f"user:{me.user_id}", f"user:{other.user_id}"
        wallet = f"wallet:{me.user_id}"
        interests = [{mine}, {wallet}, {mine, wallet}, {mine, theirs}, {wallet, theirs}, {mine, wallet, theirs}]
        clients = []
        for channels in interests:
            token, _ = people.sign_in(*channels)
            clients.append((channels, await WsClient.open(node, token, channels=sorted(channels))))
            clients.append((channels, await SseClient.open(node, token, channels=",".join(sorted(channels)))))
        kinds = [signed_up(me.user_id), on_both(me.user_id), signed_up(other.user_id), on_both(me.user_id)] * 5
        await emit(database, *(replace(event, id=event.id[:-2] + f"{n:02d}") for n, event in enumerate(kinds)))
        async with relaying(database, redis):
            entries = await settled(database)
            for channels, client in clients:
                expected = [entry.event_id for entry in entries if channels & set(entry.channels)]
                await reached(lambda client=client, expected=expected: len(client.event_ids) >= len(expected))  # type: ignore[misc]
                assert client.event_ids == expected
                await client.close()


async def test_a_block_too_large_for_one_write_is_sent_in_parts(
    database: Database, relay: Relay, node: Node, people: People
) -> None:
    token, me = people.sign_in()
    sent = await emit(database, *(signed_up(me.user_id) for _ in range(250)))
    cursor = node.realtime.cursor
    await reached(lambda: node.realtime._hub.position == 250)
    socket = await WsClient.open(node, token, cursor=cursor)
    stream = await SseClient.open(node, token, last_event_id=cursor)
    await reached(lambda: socket.event_ids == stream.event_ids == sent)
    await socket.close()
    await stream.close()


@pytest.mark.parametrize("ring", [4, 4096], ids=["from the log", "from memory"])
async def test_many_who_come_back_at_once_cost_a_handful_of_reads(
    database: Database, redis: Redis, relay: Relay, people: People, ring: int
) -> None:
    """After a start: a process that died had all of them as its clients."""
    options = replace(FAST, hub_ring=ring)
    async with serving(database, redis, people, options) as node:
        cursor = node.realtime.cursor
    signed_in = [people.sign_in() for _ in range(CLIENTS)]
    sent = [await emit(database, signed_up(me.user_id), signed_up(me.user_id)) for _, me in signed_in]
    await settled(database)
    async with serving(database, redis, people, options) as node:
        before = counted("log_reads", source="resume")
        clients = await asyncio.gather(*(WsClient.open(node, token, cursor=cursor) for token, _ in signed_in))
        for client, expected in zip(clients, sent, strict=True):
            await reached(lambda client=client, expected=expected: client.event_ids == expected)  # type: ignore[misc]
            assert client.first["recovered"]
        reads = counted("log_reads", source="resume") - before
        assert reads == 0 if ring == 4096 else 1 <= reads <= 20
        await asyncio.gather(*(client.close() for client in clients))


async def test_one_who_leaves_while_a_backlog_is_read_harms_nobody(
    database: Database, redis: Redis, relay: Relay, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=1)) as node:
        cursor = node.realtime.cursor
        token, me = people.sign_in()
        sent = await emit(database, *(signed_up(me.user_id) for _ in range(5)))
        await reached(lambda: node.realtime._hub.position == 5)
        backlogs = node.realtime._sessions._resumer._backlogs
        search, going_on = backlogs._search, asyncio.Event()

        async def slow_search(*arguments: Any) -> int:
            await going_on.wait()
            return await search(*arguments)

        monkeypatch.setattr(backlogs, "_search", slow_search)
        leaving = asyncio.create_task(backlogs.read(after=0, upto=5, channels={"user:x"}, limit=10))
        staying = asyncio.create_task(WsClient.open(node, token, cursor=cursor))
        await reached(lambda: backlogs._reading is not None and backlogs._waiting)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        going_on.set()
        client = await staying
        await reached(lambda: client.event_ids == sent)
        await client.close()


class Paused:
    """A protocol whose client does not keep up, until it is let go."""

    def __init__(self) -> None:
        self.transport = self
        self.writing_paused = True
        self.written: list[bytes] = []
        self.goes_on = asyncio.Event()

    def is_closing(self) -> bool:
        return False

    def write(self, block: bytes) -> None:
        self.written.append(block)

    async def drain(self) -> None:
        await self.goes_on.wait()


async def test_of_a_state_only_the_newest_waits() -> None:
    """Events stay, all of them and in order; a state takes its newest place among them."""
    paused = Paused()
    outlet = Outlet(paused, paused, FAST, lambda: None)  # type: ignore[arg-type]
    for block, key in [(b"a1", None), (b"s1", "s"), (b"a2", None), (b"t1", "t"), (b"s2", "s"), (b"a3", None)]:
        outlet.send(block, key=key)
    assert outlet.queued == 10
    paused.goes_on.set()
    await reached(lambda: outlet.queued == 0)
    assert b"".join(paused.written) == b"a1a2t1s2a3"


async def test_a_hub_before_a_log_that_was_cut_to_nothing_begins_anew(
    database: Database, redis: Redis, people: People
) -> None:
    """It slept while everything it had not read was dropped; it must neither wait for ever nor pass over it."""
    async with serving(database, redis, people) as node:
        token, _ = people.sign_in()
        socket = await WsClient.open(node, token)
        async with database.transaction() as conn:
            await conn.raw.execute("UPDATE event_log_shards SET head = 7")
        await socket.ended()
        assert socket.code == 4010
        await reached(lambda: node.realtime._hub.position == 7)
