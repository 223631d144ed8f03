"""Outbox to log: nothing of a rollback, everything that commits, contiguous and in commit order."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest
from redis.asyncio import Redis

from contracts.events import Event
from storage import redis as storage_redis
from storage.db import Database
from streams import outbox
from streams.relay import Relay
from tests.streams.harness import FAST, emit, log_of, reached, relaying, settled, signed_up, user_id


class ChangedMyMind(Exception):
    pass


async def emit_and_roll_back(database: Database, event: Event) -> None:
    async with database.transaction() as conn:
        await outbox.append(conn, event)
        raise ChangedMyMind


async def test_a_rollback_emits_nothing(database: Database, relay: Relay) -> None:
    with pytest.raises(ChangedMyMind):
        await emit_and_roll_back(database, signed_up(user_id()))
    committed = await emit(database, signed_up(user_id()))
    assert [entry.event_id for entry in await settled(database)] == committed


async def test_a_savepoint_rolled_back_emits_nothing_and_the_rest_stays(database: Database, relay: Relay) -> None:
    kept = signed_up(user_id())
    async with database.transaction() as conn:
        await outbox.append(conn, kept)
        with pytest.raises(ChangedMyMind):
            await emit_and_roll_back(database, signed_up(user_id()))
    assert [entry.event_id for entry in await settled(database)] == [kept.id]


async def test_a_writer_that_commits_later_with_the_lower_id_is_not_lost(database: Database, relay: Relay) -> None:
    """Two seats are booked at once; the first to write is the last to commit."""
    slow, quick = signed_up(user_id()), signed_up(user_id())
    async with database.transaction() as conn:
        await outbox.append(conn, slow)  # draws the lower id

        await asyncio.create_task(emit(database, quick))  # in a transaction of its own: another task
        await asyncio.create_task(reached(lambda: log_of(database), what="the quick writer's event"))
    entries = await settled(database)
    assert [entry.event_id for entry in entries] == [quick.id, slow.id]
    assert [entry.position for entry in entries] == [1, 2]


async def test_positions_have_no_gap_and_sequences_rise_under_many_writers(database: Database, relay: Relay) -> None:
    async def write(*, fails: bool) -> list[str]:
        if not fails:
            return await emit(database, signed_up(user_id()))
        with pytest.raises(ChangedMyMind):
            await emit_and_roll_back(database, signed_up(user_id()))
        return []

    written = await asyncio.gather(*(write(fails=number % 5 == 0) for number in range(300)))
    entries = await settled(database)
    assert {entry.event_id for entry in entries} == {event_id for ids in written for event_id in ids}
    assert [entry.position for entry in entries] == list(range(1, 241))
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))


async def test_an_event_keeps_what_it_said(database: Database, relay: Relay) -> None:
    event = signed_up(user_id())
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with database.transaction() as conn:
        await outbox.append(conn, event, traceparent=trace)
    [entry] = await settled(database)
    assert (entry.type, entry.subject, entry.channels) == (event.type, event.subject, event.channels)
    assert (entry.data, entry.happened_at, entry.traceparent) == (event.data, event.time, trace)


async def test_the_same_event_cannot_be_written_twice(database: Database, relay: Relay) -> None:
    event = signed_up(user_id())
    await emit(database, event)
    with pytest.raises(asyncpg.UniqueViolationError):
        await emit(database, event, event)


async def test_a_poke_wakes_a_relay_that_would_sleep(database: Database, redis: Redis) -> None:
    async with relaying(database, redis, replace(FAST, relay_poll_s=60.0)) as relay:
        await reached(lambda: relay.leading)
        await emit(database, signed_up(user_id()))

        async def moved() -> bool:
            await outbox.poke(redis)  # again and again: the first may come before the relay has subscribed
            return bool(await log_of(database))

        await reached(moved)


async def test_a_poke_without_redis_does_not_fail_the_request() -> None:
    client = storage_redis.connect("unix:///nowhere/valkey.sock")
    await outbox.poke(client)
    await client.aclose()


async def test_commits_close_together_poke_once_and_none_is_forgotten(database: Database, redis: Redis) -> None:
    poker = outbox.Poker(redis)
    database.on_commit(outbox.APPENDED, poker)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(outbox.poke_channel(0))
        assert await pubsub.get_message(timeout=5)  # that it is subscribed
        await asyncio.gather(*(emit(database, signed_up(user_id())) for _ in range(40)))
        await poker.close()
        heard = 0
        while await pubsub.get_message(timeout=0.1):
            heard += 1
        assert 1 <= heard <= 20
        await emit(database, signed_up(user_id()))
        assert await pubsub.get_message(timeout=5)
    await poker.close()
