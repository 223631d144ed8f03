"""Groups that are sent back, events that were given up on, and what a crash in between leaves: each effect once."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from redis.asyncio import Redis

from contracts.errors import NotFound
from contracts.events import Event
from matchday import cli
from matchday.home import Home
from storage.db import Connection, Database
from streams import dead_letters, event_counts, log
from streams.consumer import Consumer
from streams.log import LogEntry, Q
from streams.options import StreamOptions
from streams.relay import Relay
from streams.replay import SentBack, send_back
from tests.streams.harness import emit, log_of, reached, settled, signed_up, user_id
from tests.streams.test_consumer import QUICK, Effects, consumer, consuming, position_of
from tests.streams.test_retention import OLD, TODAY, move

BATCHES = [replace(QUICK, consumer_batch=1), replace(QUICK, consumer_batch=7), replace(QUICK, consumer_batch=500)]


@pytest.fixture
def database(owner_database: Database) -> Database:
    """With its owner's rights: these tests make a table."""
    return owner_database


@pytest.fixture
async def effects(database: Database) -> Effects:
    async with database.connection() as conn:
        await conn.raw.execute("CREATE TABLE effects (id serial PRIMARY KEY, event_id text NOT NULL)")
    return Effects()


async def stands_at(database: Database, position: int) -> None:
    async def there() -> bool:
        return await position_of(database) == position

    await reached(there, what=f"a group at {position}")


async def emit_one_by_one(database: Database, number: int) -> list[str]:
    return [event_id for _ in range(number) for event_id in await emit(database, signed_up(user_id()))]


async def test_a_group_that_is_sent_back_does_nothing_twice(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    written = await emit_one_by_one(database, 20)
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 20)
        assert await send_back(database, "test", since=None, again=False) == SentBack(20, 0)
        await stands_at(database, 20)
        written += await emit_one_by_one(database, 1)
        await stands_at(database, 21)
    assert await effects.done(database) == written
    assert effects.tried == written, "not even asked again"


async def test_a_group_that_is_sent_back_under_traffic_by_many_does_nothing_twice(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    """Two processes of the group, events that go on, and an operator who cannot stop."""
    other = Effects()
    async with consuming(database, redis, [consumer(effects)]), consuming(database, redis, [consumer(other)]):
        written: list[str] = []
        for _ in range(10):
            written += await emit_one_by_one(database, 10)
            await send_back(database, "test", since=None, again=False)
        await stands_at(database, 100)
    assert await effects.done(database) == written


async def test_a_projection_is_built_again_from_an_instant(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    written = await emit_one_by_one(database, 10)
    await settled(database)
    async with database.connection() as conn:
        await conn.raw.execute("UPDATE event_log SET recorded_at = now() - interval '2 hours' WHERE position <= 4")
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 10)
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        assert await send_back(database, "test", since=an_hour_ago, again=True) == SentBack(6, 6)
        await stands_at(database, 10)
        assert await effects.done(database) == [*written, *written[4:]]
        # there is nothing since an instant to come
        later = datetime.now(UTC) + timedelta(hours=1)
        assert await send_back(database, "test", since=later, again=True) == SentBack(0, 0)


async def test_a_group_is_not_sent_forward_and_an_unknown_one_is_named(
    database: Database, redis: Redis, effects: Effects
) -> None:
    await move(database, redis, OLD, events=5)
    async with database.connection() as conn:
        await Q.add_consumer(conn, consumer_group="test", shard=log.SHARD)
        await Q.advance_position(conn, consumer_group="test", shard=log.SHARD, position=2)
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert await send_back(database, "test", since=soon, again=False) == SentBack(0, 0)
    assert await position_of(database) == 2
    with pytest.raises(NotFound, match="Known: test"):
        await send_back(database, "nobody", since=None, again=False)


async def test_a_group_that_begins_after_a_cut_begins_where_the_log_does(
    database: Database, redis: Redis, effects: Effects
) -> None:
    await move(database, redis, OLD, events=300)
    kept = await move(database, redis, TODAY, events=3)
    async with database.connection() as conn:
        assert await Q.drop_day(conn, day=OLD) == 300
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 303)
    assert await effects.done(database) == kept


async def test_a_group_whose_events_somebody_cut_by_hand_says_so_and_goes_on(
    database: Database, redis: Redis, effects: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    written = await move(database, redis, TODAY, events=5)
    async with database.connection() as conn:
        await Q.add_consumer(conn, consumer_group="test", shard=log.SHARD)
        await Q.advance_position(conn, consumer_group="test", shard=log.SHARD, position=1)
        await conn.raw.execute("DELETE FROM event_log WHERE position <= 3")
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 5)
    assert await effects.done(database) == written[3:]
    told = [vars(record) for record in caplog.records if record.msg == "consumer.events_lost"]
    assert [(record["group"], record["count"]) for record in told] == [("test", 2)]


@pytest.mark.parametrize("options", BATCHES, ids=lambda options: f"batches of {options.consumer_batch}")
async def test_events_of_a_batch_that_fail_are_found_and_the_others_have_their_effect_once(
    database: Database, redis: Redis, relay: Relay, effects: Effects, options: StreamOptions
) -> None:
    events = [signed_up(user_id()) for _ in range(40)]
    bad = {events[number].id for number in (0, 13, 14, 39)}
    effects.failing |= bad
    await emit(database, *events)
    await settled(database)
    async with consuming(database, redis, [consumer(effects)], options):
        await stands_at(database, 40)
    assert await effects.done(database) == [event.id for event in events if event.id not in bad]
    async with database.connection() as conn:
        letters = await dead_letters.waiting(conn, group="test", limit=10)
    assert [letter.entry.event_id for letter in letters] == [event.id for event in events if event.id in bad]
    assert {letter.attempts for letter in letters} == {3}


async def test_a_batch_whose_commit_fails_is_taken_apart(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    """A deferred constraint speaks at COMMIT and does not say whose fault it is."""
    events = [signed_up(user_id()) for _ in range(10)]
    async with database.connection() as conn:
        await conn.raw.execute(
            "CREATE TABLE known (event_id text PRIMARY KEY);"
            "CREATE TABLE strict (event_id text REFERENCES known DEFERRABLE INITIALLY DEFERRED)"
        )

    async def breaks_at_commit(conn: Connection, entry: LogEntry) -> None:
        await effects(conn, entry)
        if entry.event_id == events[4].id:
            await conn.raw.execute("INSERT INTO strict VALUES ('evt_nothing')")

    await emit(database, *events)
    await settled(database)
    async with consuming(database, redis, [Consumer("test", breaks_at_commit)]):
        await stands_at(database, 10)
    assert await effects.done(database) == [event.id for event in events if event is not events[4]]
    async with database.connection() as conn:
        [letter] = await dead_letters.waiting(conn, group="test", limit=10)
    assert letter.entry.event_id == events[4].id


async def test_a_reader_that_dies_between_effect_and_commit_has_the_effect_once(
    owner_dsn: str, database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    deaths = 0

    async def dies(conn: Connection, entry: LogEntry) -> None:
        nonlocal deaths
        await effects(conn, entry)
        if len(effects.tried) in (3, 8, 20):
            deaths += 1
            with psycopg.connect(owner_dsn, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [conn.raw.get_server_pid()])

    written = await emit_one_by_one(database, 15)
    options = replace(QUICK, consumer_batch=5, consumer_tries=20)
    async with consuming(database, redis, [Consumer("test", dies)], options):
        await stands_at(database, 15)
    assert deaths == 3
    assert await effects.done(database) == written


async def test_a_dead_letter_and_a_replay_of_the_same_event_have_one_effect(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    [bad] = await emit(database, signed_up(user_id()))
    effects.failing.add(bad)
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 1)
        effects.failing.clear()
        await send_back(database, "test", since=None, again=False)
        await stands_at(database, 1)
    assert await effects.done(database) == [bad]
    async with database.connection() as conn:
        [letter] = await dead_letters.waiting(conn, group="test", limit=10)
    await dead_letters.replay(database, letter.id, handlers={"test": effects})
    assert await effects.done(database) == [bad], "the group had done it since"
    async with database.connection() as conn:
        assert await dead_letters.waiting(conn, group="test", limit=10) == []


async def test_an_event_that_was_replayed_and_fails_again_waits_again(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    [bad] = await emit(database, signed_up(user_id()))
    effects.failing.add(bad)
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 1)
        async with database.connection() as conn:
            [letter] = await dead_letters.waiting(conn, group="test", limit=10)
        await dead_letters.replay(database, letter.id, handlers={"test": Effects()})
        await send_back(database, "test", since=None, again=True)
        await stands_at(database, 1)
    async with database.connection() as conn:
        [again] = await dead_letters.waiting(conn, group="test", limit=10)
    assert (again.entry.event_id, again.id != letter.id) == (bad, True)


async def test_a_dead_letter_of_a_group_that_is_gone_waits_on(
    database: Database, redis: Redis, relay: Relay, effects: Effects
) -> None:
    [bad] = await emit(database, signed_up(user_id()))
    effects.failing.add(bad)
    async with consuming(database, redis, [consumer(effects)]):
        await stands_at(database, 1)
    async with database.connection() as conn:
        [letter] = await dead_letters.waiting(conn, group="test", limit=10)
    with pytest.raises(NotFound, match="test"):
        await dead_letters.replay(database, letter.id, handlers={})
    async with database.connection() as conn:
        assert [found.id for found in await dead_letters.waiting(conn, group="test", limit=10)] == [letter.id]


ANALYTICS = Consumer(event_counts.GROUP, event_counts.count)


async def test_what_happened_is_counted_by_day_in_india(database: Database, redis: Redis, relay: Relay) -> None:
    def at(text: str) -> Event:
        return signed_up(user_id(), time=datetime.fromisoformat(text))

    # 18:30 UTC is midnight in India
    await emit(database, at("2026-03-01T18:29:59+00:00"), at("2026-03-01T18:30:00+00:00"), at("2026-03-02T00:00+00:00"))
    async with consuming(database, redis, [ANALYTICS]):

        async def counted() -> bool:
            return await position_of(database, event_counts.GROUP) == 3

        await reached(counted)
    async with database.connection() as conn:
        counts = await event_counts.between(conn, date(2026, 3, 1), date(2026, 3, 2))
        assert await event_counts.between(conn, date(2026, 3, 3), date(2026, 3, 9)) == []
    assert [(found.day.day, found.type, found.events) for found in counts] == [
        (1, "user.signed_up", 1),
        (2, "user.signed_up", 2),
    ]


Command = Callable[..., Awaitable[tuple[object, str]]]


@pytest.fixture
def command(database_dsn: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `matchday events …` with the application's rights; how it ended, and what it said."""
    home.mkdir()
    environment = {
        **Home(home).environment(os.environ),
        "DATABASE_URL": database_dsn,
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(arguments: tuple[str, ...]) -> tuple[object, str]:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            try:
                cli.main(("events", *arguments))
            except SystemExit as ended:
                return ended.code, out.getvalue()
        return 0, out.getvalue()

    async def command(*arguments: str) -> tuple[object, str]:
        return await asyncio.to_thread(run, arguments)

    return command


async def test_an_operator_looks_at_the_log_and_sends_a_group_back(
    database: Database, redis: Redis, relay: Relay, command: Command
) -> None:
    await emit_one_by_one(database, 3)
    async with consuming(database, redis, [ANALYTICS]):

        async def counted() -> bool:
            return await position_of(database, event_counts.GROUP) == 3

        await reached(counted)
    code, said = await command("log")
    assert code == 0
    for part in ("kept 1 to 3, 0 waiting, leader matchday", f"{TODAY}  3 events", "group analytics  at 3, 0 behind"):
        assert part in said, said
    _, counts = await command("counts")
    assert "user.signed_up  3" in counts
    assert await command("replay", "--group", "analytics", "--from", "beginning") == (
        0, "analytics reads 3 events again; 0 that it had handled count as new\n",
    )  # fmt: skip
    assert await command("replay", "--group", "analytics", "--from", "beginning") == (
        0, "analytics has not come further than that\n",
    )  # fmt: skip
    assert (await command("log"))[1].count("at 0, 3 behind") == 1
    code, said = await command("replay", "--group", "nobody", "--from", "2026-03-01T00:00:00+05:30")
    assert "Known: analytics" in str(code)
    assert (await command("replay", "--group", "analytics", "--from", "yesterday"))[0] == 2
    assert (await command("forget", "--group", "analytics"))[0] == 0
    assert "group" not in (await command("log"))[1]
    assert "no group analytics" in str((await command("forget", "--group", "analytics"))[0])


async def test_an_operator_retries_a_dead_letter(
    database: Database, redis: Redis, relay: Relay, effects: Effects, command: Command
) -> None:
    [bad] = await emit(database, signed_up(user_id()))
    effects.failing.add(bad)
    async with consuming(database, redis, [replace(ANALYTICS, handler=effects)]):

        async def passed() -> bool:
            return await position_of(database, event_counts.GROUP) == 1

        await reached(passed)
    code, said = await command("dead-letters", "--group", "analytics")
    assert code == 0 and bad in said and "ValueError: cannot digest this" in said
    letter_id = said.split()[0]
    assert await command("retry", letter_id) == (0, f"{letter_id} is handled\n")
    assert await command("dead-letters", "--group", "analytics") == (0, "")
    assert "user.signed_up  1" in (await command("counts"))[1]
    code, _ = await command("retry", letter_id)
    assert "No such dead letter" in str(code)
    assert [entry.event_id for entry in await log_of(database)] == [bad]
