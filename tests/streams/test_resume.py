"""Coming back: all that was missed or none of it, through today's rights, the same on both transports."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.db import Database
from streams import log
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

Client = WsClient | SseClient
Open = Callable[..., Awaitable[Client]]


async def open_websocket(
    node: Node, token: str, cursor: str | None = None, channels: list[str] | None = None
) -> Client:
    connect: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
    if channels is not None:
        connect["channels"] = channels
    return await WsClient.open(node, token, **connect)


async def open_stream(node: Node, token: str, cursor: str | None = None, channels: list[str] | None = None) -> Client:
    query = {} if channels is None else {"channels": ",".join(channels)}
    return await SseClient.open(node, token, last_event_id=cursor, **query)


both = pytest.mark.parametrize("open_client", [open_websocket, open_stream], ids=["websocket", "sse"])
memories = pytest.mark.parametrize("ring", [4096, 3], ids=["from-memory", "from-the-log"])


def answer(client: Client) -> dict[str, Any]:
    return {name: client.first[name] for name in ("recovered", "count", "reason") if name in client.first}


async def arrived(client: Client, event_ids: list[str]) -> None:
    await reached(lambda: len(client.event_ids) >= len(event_ids), what="the events")
    assert client.event_ids == event_ids


async def caught_up(database: Database, node: Node) -> None:
    """Return once the node has seen the whole log."""
    last = (await settled(database))[-1].position
    await reached(lambda: node.realtime._hub.position >= last)


@both
@memories
async def test_what_was_missed_follows_the_first_message(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open, ring: int
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=ring)) as node:
        token, me = people.sign_in()
        _, other = people.sign_in()
        client = await open_client(node, token)
        assert answer(client) == {"recovered": False, "reason": "new"}
        seen = await emit(database, signed_up(me.user_id))
        await arrived(client, seen)
        cursor = client.cursor if isinstance(client, WsClient) else client.last_event_id
        await client.close()

        missed = []
        for _ in range(5):
            missed += await emit(database, signed_up(me.user_id))
            await emit(database, signed_up(other.user_id))
        await caught_up(database, node)
        again = await open_client(node, token, cursor)
        assert answer(again) == {"recovered": True, "count": 5}
        missed += await emit(database, signed_up(me.user_id))
        await arrived(again, missed)
        await again.close()


@both
async def test_a_replay_carries_cursors_like_live_events(
    database: Database, relay: Relay, node: Node, open_client: Open
) -> None:
    """One who loses the line in the middle of a replay goes on from there."""
    token, me = node.people.sign_in()
    client = await open_client(node, token)
    await client.close()
    missed = await emit(database, *(signed_up(me.user_id) for _ in range(4)))
    await caught_up(database, node)
    again = await open_client(node, token, client.first["cursor"])
    await arrived(again, missed)
    await again.close()
    from_the_middle = await open_client(node, token, again.events[1]["cursor"])
    await arrived(from_the_middle, missed[2:])
    await from_the_middle.close()


@both
async def test_the_first_cursor_is_worth_something_before_any_event(
    database: Database, relay: Relay, node: Node, open_client: Open
) -> None:
    token, me = node.people.sign_in()
    client = await open_client(node, token)
    await client.close()
    again = await open_client(node, token, client.first["cursor"])
    assert answer(again) == {"recovered": True, "count": 0}
    sent = await emit(database, signed_up(me.user_id))
    await arrived(again, sent)
    await again.close()


@both
@memories
async def test_a_replay_goes_through_todays_rights(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open, ring: int
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=ring)) as node:
        token, me = people.sign_in("payment:a", "payment:b")
        mine = f"user:{me.user_id}"
        channels = [mine, "payment:a", "payment:b"]
        client = await open_client(node, token, None, channels)
        await client.close()
        await emit(database, signed_up(me.user_id, channels=("payment:a",)))
        kept = await emit(database, signed_up(me.user_id, channels=("payment:b",)), signed_up(me.user_id))
        await emit(database, *(signed_up(me.user_id, channels=("payment:a",)) for _ in range(5)))
        await caught_up(database, node)

        people.readable[me.user_id].discard("payment:a")
        again = await open_client(node, token, client.first["cursor"], channels)
        assert again.first["channels"] == sorted([mine, "payment:b"])
        assert again.first["refused"] == ["payment:a"]
        assert answer(again) == {"recovered": True, "count": 2}
        await emit(database, signed_up(me.user_id, channels=("payment:a",)))
        kept += await emit(database, signed_up(me.user_id))
        await arrived(again, kept)
        await again.close()


@both
@memories
async def test_more_than_the_cap_is_not_replayed_at_all(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open, ring: int
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=ring, replay_events=4)) as node:
        token, me = people.sign_in()
        client = await open_client(node, token)
        await client.close()
        await emit(database, *(signed_up(me.user_id) for _ in range(4)))
        await caught_up(database, node)
        at_the_cap = await open_client(node, token, client.first["cursor"])
        assert answer(at_the_cap) == {"recovered": True, "count": 4}
        await at_the_cap.close()
        await emit(database, signed_up(me.user_id))
        await caught_up(database, node)
        above = await open_client(node, token, client.first["cursor"])
        assert answer(above) == {"recovered": False, "reason": "too_many"}
        only = await emit(database, signed_up(me.user_id))
        await arrived(above, only)
        await above.close()


@both
async def test_more_bytes_than_the_cap_are_not_replayed_at_all(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open
) -> None:
    async with serving(database, redis, people, replace(FAST, replay_bytes=1000)) as node:
        token, me = people.sign_in()
        client = await open_client(node, token)
        await client.close()
        await emit(database, *(signed_up(me.user_id) for _ in range(3)))
        await caught_up(database, node)
        again = await open_client(node, token, client.first["cursor"])
        assert answer(again) == {"recovered": False, "reason": "too_many"}
        await again.close()


@both
async def test_a_cursor_from_before_the_oldest_kept_event_is_expired(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=1)) as node:
        token, me = people.sign_in()
        client = await open_client(node, token)
        await client.close()
        await emit(database, *(signed_up(me.user_id) for _ in range(5)))
        await caught_up(database, node)
        async with database.connection() as conn:
            await conn.raw.execute("DELETE FROM event_log WHERE position = 1")
        again = await open_client(node, token, client.first["cursor"])
        assert answer(again) == {"recovered": False, "reason": "expired"}
        await again.close()


@both
async def test_a_cursor_too_far_back_is_expired(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=1, replay_window=4)) as node:
        token, _ = people.sign_in()
        _, other = people.sign_in()
        client = await open_client(node, token)
        await client.close()
        await emit(database, *(signed_up(other.user_id) for _ in range(5)))
        await caught_up(database, node)
        again = await open_client(node, token, client.first["cursor"])
        assert answer(again) == {"recovered": False, "reason": "expired"}
        await again.close()


@both
async def test_a_forged_or_changed_cursor_is_invalid(
    database: Database, relay: Relay, node: Node, open_client: Open
) -> None:
    token, me = node.people.sign_in()
    client = await open_client(node, token)
    await client.close()
    await emit(database, signed_up(me.user_id))
    await caught_up(database, node)
    cursor = client.first["cursor"]
    for forged in (cursor[:-1] + ("A" if cursor[-1] != "A" else "B"), "AAAA", "1", cursor + "AAAA"):
        again = await open_client(node, token, forged)
        assert answer(again) == {"recovered": False, "reason": "invalid"}
        assert again.event_ids == []
        await again.close()


@both
async def test_a_cursor_of_another_lifetime_of_the_log_is_told_so(
    database: Database, relay: Relay, node: Node, open_client: Open
) -> None:
    token, me = node.people.sign_in()
    client = await open_client(node, token)
    await client.close()
    async with database.transaction() as conn:
        await log.renew_epoch(conn)
    await emit(database, signed_up(me.user_id))
    await node.realtime._hub.refresh()
    again = await open_client(node, token, client.first["cursor"])
    assert answer(again) == {"recovered": False, "reason": "epoch"}
    await again.close()


@both
async def test_a_position_that_the_log_has_not_reached_is_of_another_lifetime(
    database: Database, relay: Relay, node: Node, open_client: Open
) -> None:
    """A backup was restored and nobody renewed the epoch."""
    token, _ = node.people.sign_in()
    again = await open_client(node, token, node.realtime._hub.cursor_at(10_000))
    assert answer(again) == {"recovered": False, "reason": "epoch"}
    await again.close()


@both
async def test_one_who_comes_from_a_node_that_is_ahead_gets_nothing_twice_and_misses_nothing(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open
) -> None:
    async with serving(database, redis, people) as ahead:
        # asleep until asked: no Redis reaches it, and its timer is far off
        asleep = replace(FAST, hub_poll_s=3600.0, heartbeat_s=3600.0)
        async with serving(database, redis, people, asleep) as behind:
            behind.realtime._hub._tasks[0].cancel()
            token, me = people.sign_in()
            client = await open_client(ahead, token)
            seen = await emit(database, *(signed_up(me.user_id) for _ in range(3)))
            await arrived(client, seen)
            cursor = client.cursor if isinstance(client, WsClient) else client.last_event_id
            await client.close()
            assert behind.realtime._hub.position < 3
            again = await open_client(behind, token, cursor)
            assert answer(again) == {"recovered": True, "count": 0}
            new = await emit(database, signed_up(me.user_id))
            await settled(database)
            await behind.realtime._hub.refresh()
            await arrived(again, new)
            await again.close()


async def test_the_header_wins_over_the_query(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in()
    first = await SseClient.open(node, token)
    await first.close()
    missed = await emit(database, signed_up(me.user_id))
    await caught_up(database, node)
    both_given = await node.session.get(
        node.url("/sse"), params={"last_event_id": "forged"},
        headers={"Authorization": f"Bearer {token}", "Last-Event-ID": first.first["cursor"]},
    )  # fmt: skip
    client = SseClient(both_given)
    await reached(lambda: client.event_ids == missed)
    assert client.first["recovered"]
    await client.close()
    query_only = await node.session.get(
        node.url("/sse"), params={"last_event_id": first.first["cursor"]}, headers={"Authorization": f"Bearer {token}"}
    )
    client = SseClient(query_only)
    await reached(lambda: client.event_ids == missed)
    await client.close()


class Wanderer:
    """A client that loses its line again and again, often with events on their way, and comes back to any node."""

    def __init__(self, nodes: list[Node], token: str, open_client: Open, *, seed: int) -> None:
        self._nodes, self._token, self._open = nodes, token, open_client
        self._dice = random.Random(seed)
        self._cursor: str | None = None
        self.seen: list[str] = []
        self.losses = 0

    async def wander(self, total: int) -> None:
        while len(self.seen) < total:
            client = await self._open(self._dice.choice(self._nodes), self._token, self._cursor)
            assert self._cursor is None or client.first["recovered"], client.first
            taken = min(self._dice.randint(0, 12), total - len(self.seen))
            await self._receive(client, taken)
            await client.close()
            events = client.events[:taken]
            self.seen += [event["id"] for event in events]
            self._cursor = events[-1]["cursor"] if events else client.first["cursor"]
            self.losses += 1

    async def _receive(self, client: Client, count: int) -> None:
        await reached(lambda: len(client.event_ids) >= count, what=f"{count} events")


@both
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whoever_comes_back_with_the_cursor_sees_the_whole_log_once_and_in_order(
    database: Database, redis: Redis, people: People, open_client: Open, seed: int
) -> None:
    options = replace(FAST, hub_ring=20)
    token, me = people.sign_in()
    async with (
        serving(database, redis, people, options) as one,
        serving(database, redis, people, options) as two,
        relaying(database, redis),
    ):
        wanderer = Wanderer([one, two], token, open_client, seed=seed)
        wandering = asyncio.create_task(wanderer.wander(total=200))
        await reached(lambda: wanderer.losses or one.realtime.open_streams or two.realtime.open_streams)
        written = [event_id for _ in range(200) for event_id in await emit(database, signed_up(me.user_id))]
        await reached(wandering.done, within_s=60)
        await wandering
        assert wanderer.seen == written
        assert wanderer.losses > 15
