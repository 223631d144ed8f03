"""Consumers: each event's effect once, in order, whoever fails and however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from redis.asyncio import Redis

from contracts.errors import NotFound
from storage.db import Connection, Database
from streams import dead_letters, outbox
from streams.consumer import Consumer, Consumers
from streams.log import LogEntry
from streams.options import StreamOptions
from streams.relay import Relay
from tests.streams.harness import FAST, emit, log_of, reached, settled, signed_up, user_id

TYPES = frozenset({"user.signed_up"})
QUICK = replace(FAST, consumer_poll_s=0.05, consumer_backoff_s=0.02, consumer_tries=3)


@dataclass
class Effects:
    """A handler with an effect in the database, that fails when it is told to."""

    failing: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)

    async def __call__(self, conn: Connection, entry: LogEntry) -> None:
        self.tried.append(entry.event_id)
        await conn.raw.execute("INSERT INTO effects (event_id) VALUES ($1)", entry.event_id)
        if entry.event_id in self.failing:
            raise ValueError("cannot digest this")

    async def done(self, database: Database) -> list[str]:
        async with database.connection() as conn:
            return [row["event_id"] for row in await conn.raw.fetch("SELECT event_id FROM effects ORDER BY id")]


@pytest.fixture
def database(owner_database: Database) -> Database:
    """With its owner's rights: these tests make a table."""
    return owner_database


@pytest.fixture
async def effects(database: Database) -> Effects:
    async with database.connection() as conn:
        await conn.raw.execute("CREATE TABLE effects (id serial PRIMARY KEY, event_id text NOT NULL)")
    return Effects()


@asynccontextmanager
async def consuming(
    database: Database, redis: Redis, consumers: Sequence[Consumer], options: StreamOptions = QUICK
) -> AsyncIterator[None]:
    running = asyncio.create_task(Consumers(database, redis, consumers, options).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def consumer(effects: Effects, group: str = "test") -> Consumer:
    return Consumer(group, effects, TYPES)


async def position_of(database: Database, group: str = "test") -> int:
    async with database.connection() as conn:
        query = "SELECT position FROM consumer_positions WHERE consumer_group = $1"
        return int(await conn.raw.fetchval(query, group) or 0)


async def test_every_event_has_its_effect_once_and_in_order(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    before = await emit(database, *(signed_up(user_id()) for _ in range(20)))
    async with consuming(database, redis, [consumer(effects)]):
        after = [event_id for _ in range(20) for event_id in await emit(database, signed_up(user_id()))]

        async def all_done() -> bool:
            return len(await effects.done(database)) == 40

        await reached(all_done)
    assert await effects.done(database) == before + after


async def test_consumers_of_one_group_in_many_processes_share_the_work_and_double_nothing(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    others = [Effects(), Effects()]
    async with (
        consuming(database, redis, [consumer(effects)]),
        consuming(database, redis, [consumer(others[0])]),
        consuming(database, redis, [consumer(others[1])]),
    ):
        written = [event_id for _ in range(60) for event_id in await emit(database, signed_up(user_id()))]

        async def all_done() -> bool:
            return len(await effects.done(database)) >= 60

        await reached(all_done)
    assert await effects.done(database) == written


async def test_groups_stand_each_for_itself(database: Database, redis: Redis, relay: Relay, effects: Effects) -> None:
    stuck = Effects()
    options = replace(QUICK, consumer_tries=1000)
    async with consuming(database, redis, [consumer(stuck, "stuck"), consumer(effects, "well")], options):
        [bad] = await emit(database, replace(signed_up(user_id()), id="evt_01jd4q2m8xj7b3z1g9f5s4p0yd"))
        stuck.failing.add(bad)
        [good] = await emit(database, signed_up(user_id()))

        async def well_is_done() -> bool:
            return await position_of(database, "well") == 2

        await reached(well_is_done)
    assert set(await effects.done(database)) >= {bad, good}
    assert await position_of(database, "stuck") <= 2


async def test_other_types_are_passed_over_and_not_looked_at_again(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    await emit(database, *(signed_up(user_id()) for _ in range(3)))
    await settled(database)
    async with consuming(database, redis, [Consumer("test", effects, frozenset({"wallet.credited"}))]):

        async def passed() -> bool:
            return await position_of(database) == 3

        await reached(passed)
    assert effects.tried == []


async def test_an_event_that_cannot_be_digested_is_tried_kept_and_passed(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    first, bad, last = signed_up(user_id()), signed_up(user_id()), signed_up(user_id())
    effects.failing.add(bad.id)
    async with consuming(database, redis, [consumer(effects)]):
        await emit(database, first, bad, last)

        async def passed() -> bool:
            return await position_of(database) == 3

        await reached(passed)
    assert await effects.done(database) == [first.id, last.id], "a failed try leaves no effect"
    assert [event_id for event_id in effects.tried if event_id == last.id] == [last.id]
    assert effects.tried.count(bad.id) in (3, 4), "three tries, and perhaps one together with the others"
    async with database.connection() as conn:
        [letter] = await dead_letters.waiting(conn, group="test", limit=10)
    assert (letter.entry.event_id, letter.entry.data, letter.attempts) == (bad.id, bad.data, 3)
    assert letter.entry == (await log_of(database))[1]
    assert letter.error == "ValueError: cannot digest this"


async def test_a_failure_at_commit_counts_as_a_failure(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    """Deferred constraints speak at COMMIT; an event that breaks one must not hold up its group for ever."""
    async with database.connection() as conn:
        await conn.raw.execute(
            "CREATE TABLE known (event_id text PRIMARY KEY);"
            "CREATE TABLE strict (event_id text REFERENCES known DEFERRABLE INITIALLY DEFERRED)"
        )
    tries = 0

    async def breaks_at_commit(conn: Connection, entry: LogEntry) -> None:
        nonlocal tries
        tries += 1
        await conn.raw.execute("INSERT INTO strict VALUES ('evt_nothing')")

    await emit(database, signed_up(user_id()))
    async with consuming(database, redis, [Consumer("test", breaks_at_commit, TYPES)]):

        async def passed() -> bool:
            return await position_of(database) == 1

        await reached(passed)
    assert tries == 3


async def test_a_handler_that_swallows_a_refused_statement_counts_as_a_failure(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    tries = 0

    async def swallows(conn: Connection, entry: LogEntry) -> None:
        nonlocal tries
        tries += 1
        with pytest.raises(Exception, match="no_such_table"):
            await conn.raw.execute("SELECT * FROM no_such_table")

    await emit(database, signed_up(user_id()))
    async with consuming(database, redis, [Consumer("test", swallows, TYPES)]):

        async def passed() -> bool:
            return await position_of(database) == 1

        await reached(passed)
    assert tries == 3


async def test_a_failure_that_another_process_has_since_made_good_changes_nothing(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    """Between the rollback of a failed try and its count, another process of the group may take the event."""
    written = await emit(database, signed_up(user_id()), signed_up(user_id()))
    entries = await settled(database)
    late = Consumers(database, redis, [consumer(effects)], QUICK)
    async with consuming(database, redis, [consumer(effects)]):

        async def both_done() -> bool:
            return await position_of(database) == 2

        await reached(both_done)
    for attempts in (QUICK.consumer_tries, 1):
        await late._note(consumer(effects), entries[0], attempts, ValueError("too late"))
    assert await position_of(database) == 2
    async with database.connection() as conn:
        assert await conn.raw.fetchval("SELECT attempts FROM consumer_positions") == 0
        assert await dead_letters.waiting(conn, group="test", limit=10) == []
    assert await effects.done(database) == written


async def test_a_dead_letter_is_replayed_once(database: Database, redis: Redis, relay: Relay, effects: Effects) -> None:
    bad = signed_up(user_id())
    effects.failing.add(bad.id)
    await emit(database, bad)
    async with consuming(database, redis, [consumer(effects)]):

        async def passed() -> bool:
            return await position_of(database) == 1

        await reached(passed)
    async with database.connection() as conn:
        [letter] = await dead_letters.waiting(conn, group="test", limit=10)
    handlers = {"test": effects}
    with pytest.raises(ValueError, match="cannot digest"):
        await dead_letters.replay(database, letter.id, handlers=handlers)
    effects.failing.clear()
    twice = [asyncio.create_task(dead_letters.replay(database, letter.id, handlers=handlers)) for _ in range(2)]
    outcomes = await asyncio.gather(*twice, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "NotFound"]
    assert await effects.done(database) == [bad.id]
    with pytest.raises(NotFound):
        await dead_letters.replay(database, letter.id, handlers=handlers)
    async with database.connection() as conn:
        assert await dead_letters.waiting(conn, group="test", limit=10) == []


async def test_a_reaction_may_emit_and_its_event_commits_with_it(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    user = user_id()
    echoed: set[str] = set()

    async def echo(conn: Connection, entry: LogEntry) -> None:
        if entry.subject == user and not echoed:
            echoed.add(entry.event_id)
            await outbox.append(conn, signed_up(user_id()))

    await emit(database, signed_up(user))
    async with consuming(database, redis, [Consumer("test", echo, TYPES)]):

        async def passed() -> bool:
            return await position_of(database) == 2

        await reached(passed)
    assert len(await log_of(database)) == 2
