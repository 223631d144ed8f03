"""The log in days: it goes on across midnight, is read day by day, and is cut at its beginning only."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import psycopg
import pytest
from redis.asyncio import Redis
from yoyo import get_backend, read_migrations

from contracts.errors import StorageBusy
from storage.db import Database
from storage.migrations import STEPS, migrate
from streams import log, metrics, retention
from streams.log import LogEntry, Q
from streams.relay import Relay, today
from streams.retention import Retention, cut
from tests.streams.harness import (
    FAST,
    People,
    SseClient,
    WsClient,
    emit,
    log_of,
    reached,
    relaying,
    serving,
    settled,
    signed_up,
    user_id,
)  # fmt: skip

TODAY = today()
OLD = TODAY - timedelta(days=30)


async def move(database: Database, redis: Redis, day: date, *, events: int = 1) -> list[str]:
    """Commit events, and have a relay whose clock shows a day move them."""
    written = [event_id for _ in range(events) for event_id in await emit(database, signed_up(user_id()))]
    relay = Relay(database, redis, FAST, today=lambda: day)
    async with database.connection() as conn:
        while await relay._move(conn):
            pass
    return written


async def days_of(database: Database) -> dict[date, int | None]:
    """First positions of the days that have a partition."""
    async with database.connection() as conn:
        return {row["day"]: row["first_position"] for row in await Q.list_days(conn, shard=log.SHARD)}


async def floor_and_head(database: Database) -> tuple[int, int]:
    async with database.connection() as conn:
        return await log.floor(conn), (await log.head(conn)).position


async def stand_at(database: Database, group: str, position: int) -> None:
    async with database.connection() as conn:
        await Q.add_consumer(conn, consumer_group=group, shard=log.SHARD)
        await Q.advance_position(conn, consumer_group=group, shard=log.SHARD, position=position)


async def log_goes_beyond(database: Database, position: int) -> bool:
    return (await floor_and_head(database))[1] > position


def positions(entries: list[LogEntry]) -> list[int]:
    return [entry.position for entry in entries]


async def test_midnight_passes_under_traffic(database: Database, redis: Redis) -> None:
    day = OLD
    relay = Relay(database, redis, FAST, today=lambda: day)
    running = asyncio.create_task(relay.run())
    written: list[str] = []
    for number in range(5):
        for _ in range(10):
            written += await emit(database, signed_up(user_id()))
        await reached(lambda moved=20 * number: log_goes_beyond(database, moved))
        for _ in range(10):
            written += await emit(database, signed_up(user_id()))
        day += timedelta(days=1)
    entries = await settled(database)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [entry.event_id for entry in entries] == written
    assert positions(entries) == list(range(1, 101))
    async with database.connection() as conn:
        rows = await conn.raw.fetch("SELECT day, min(position), max(position) FROM event_log GROUP BY day ORDER BY day")
        begun = {day: first for day, first in (await days_of(database)).items() if first is not None}
    assert {row["day"]: row["min"] for row in rows} == begun
    assert len(rows) >= 4, "a day began while events were moved"
    assert all(earlier["max"] < later["min"] for earlier, later in pairwise(rows))


async def test_a_clock_that_goes_back_does_not_take_the_log_back(database: Database, redis: Redis) -> None:
    for day in (OLD + timedelta(days=1), OLD, OLD - timedelta(days=400), OLD + timedelta(days=1)):
        await move(database, redis, day)
    async with database.connection() as conn:
        found = await conn.raw.fetch("SELECT DISTINCT day FROM event_log")
    assert [row["day"] for row in found] == [OLD + timedelta(days=1)]
    assert positions(await log_of(database)) == [1, 2, 3, 4]


async def test_a_day_is_opened_whoever_comes_first_and_by_all_at_once(
    owner_database: Database, database: Database, redis: Redis
) -> None:
    """Relay and job need the same partition in the same moment."""

    async def ensure() -> int:
        async with database.transaction() as conn:
            made: int = await Q.ensure_days(conn, first=OLD, days=3)
            return made

    made = await asyncio.gather(*(asyncio.create_task(ensure()) for _ in range(8)), move(database, redis, OLD))
    assert sum(number for number in made if isinstance(number, int)) in (2, 3), "the relay made one, or none"
    assert positions(await log_of(database)) == [1]


async def test_a_relay_that_dies_while_it_opens_a_day_leaves_nothing_behind(
    owner_dsn: str, database: Database, redis: Redis
) -> None:
    [event_id] = await emit(database, signed_up(user_id()))
    with pytest.raises(StorageBusy):
        async with database.transaction() as conn:
            end = await Q.lock_head(conn, shard=log.SHARD, today=OLD)
            assert not end["has_begun"]
            await Q.ensure_days(conn, first=OLD, days=1)
            await Q.begin_day(conn, shard=log.SHARD, day=OLD)
            with psycopg.connect(owner_dsn, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [conn.raw.get_server_pid()])
            await conn.raw.execute("SELECT 1")
    assert OLD not in await days_of(database)
    await move(database, redis, OLD, events=0)
    assert [entry.event_id for entry in await log_of(database)] == [event_id]


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_reader_opens_the_days_that_it_reads_and_no_others(database: Database, redis: Redis, mode: str) -> None:
    for number in range(10):
        await move(database, redis, OLD + timedelta(days=number), events=10)

    async def scanned(sql: str, types: str, arguments: str) -> list[str]:
        async with database.connection() as conn:
            await conn.raw.execute(f"SET plan_cache_mode = {mode}")
            await conn.raw.execute(f"PREPARE asked ({types}) AS {sql}")
            try:
                found = await conn.raw.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({arguments})")
            finally:
                await conn.raw.execute("DEALLOCATE asked; RESET plan_cache_mode")
            return sorted(opened(json.loads(found) if isinstance(found, str) else found))

    def days(*numbers: int) -> list[str]:
        return [f"event_log_{OLD + timedelta(days=number):%Y_%m_%d}" for number in numbers]

    follow, read, due = Q.follow_log, Q.read_log, Q.next_events
    assert follow.parameters == ("shard", "after", "page")
    assert await scanned(follow.sql, "smallint, bigint, bigint", "0, 100, 20") == days(9), "at the end"
    assert await scanned(follow.sql, "smallint, bigint, bigint", "0, 95, 20") == days(9)
    assert await scanned(follow.sql, "smallint, bigint, bigint", "0, 35, 10") == days(3, 4)
    assert await scanned(follow.sql, "smallint, bigint, bigint", "0, 0, 10") == days(0)
    assert read.parameters == ("shard", "after", "upto", "channels", "page")
    types = "smallint, bigint, bigint, text[], bigint"
    assert await scanned(read.sql, types, "0, 41, 59, ARRAY['user:usr_x'], 300") == days(4, 5)
    assert due.parameters == ("shard", "after", "upto", "types", "consumer_group")
    assert await scanned(due.sql, "smallint, bigint, bigint, text[], text", "0, 29, 39, NULL, 'g'") == days(2, 3)


def opened(plan: Any) -> set[str]:
    """Partitions of the log that a plan has really scanned."""
    if isinstance(plan, list):
        return set().union(*(opened(part) for part in plan))
    if not isinstance(plan, dict):
        return set()
    found = set().union(*(opened(part) for part in plan.values()))
    name = plan.get("Relation Name", "")
    if name.startswith("event_log_2") and plan["Actual Loops"] > 0:
        found.add(name)
    return found


async def test_pages_go_across_days_without_a_gap(database: Database, redis: Redis) -> None:
    written = [
        event_id
        for number in range(6)
        for event_id in await move(database, redis, OLD + timedelta(days=number), events=7)
    ]
    found: list[LogEntry] = []
    async with database.connection() as conn:
        while True:
            head, page = await log.follow(conn, after=len(found), page=5)
            if not page:
                break
            found += page
    assert head.position == 42
    assert [entry.event_id for entry in found] == written
    assert positions(found) == list(range(1, 43))
    async with database.connection() as conn:
        for after, upto in ((0, 42), (6, 7), (7, 8), (13, 29), (41, 42)):
            channels = {channel for entry in found for channel in entry.channels}
            entries = await log.read(conn, after=after, upto=upto, channels=channels, limit=100)
            assert positions(entries) == list(range(after + 1, upto + 1))


async def test_days_that_are_over_are_cut_and_the_rest_goes_on(database: Database, redis: Redis) -> None:
    for ago in (9, 8, 7, 0):
        await move(database, redis, TODAY - timedelta(days=ago), events=10)
    async with database.connection() as conn:
        epoch = (await log.head(conn)).epoch
    before = metrics.RETENTION_CUT._value.get()
    assert await cut(database, keep_days=7, now=TODAY) == 20
    assert metrics.RETENTION_CUT._value.get() == before + 20
    assert await floor_and_head(database) == (21, 40)
    assert await cut(database, keep_days=7, now=TODAY) == 0
    assert min(await days_of(database)) == TODAY - timedelta(days=7)
    async with database.connection() as conn:
        head, entries = await log.follow(conn, after=20, page=100)
        assert (head.epoch, positions(entries)) == (epoch, list(range(21, 41)))
        # whoever stands before the cut is told so: nothing, or not what comes next
        head, entries = await log.follow(conn, after=5, page=10)
        assert entries == [] and head.position == 40
        _, entries = await log.follow(conn, after=15, page=10)
        assert positions(entries) == [21, 22, 23, 24, 25]
    await move(database, redis, TODAY)
    assert await floor_and_head(database) == (21, 41)


async def test_a_log_that_was_cut_to_nothing_goes_on_where_it_was(database: Database, redis: Redis) -> None:
    await move(database, redis, OLD, events=5)
    assert await cut(database, keep_days=7, now=TODAY) == 5
    assert await floor_and_head(database) == (6, 5)
    async with database.connection() as conn:
        head, entries = await log.follow(conn, after=0, page=100)
    assert (head.position, entries) == (5, [])
    # by a relay whose clock stands still in the day that was cut
    [event_id] = await move(database, redis, OLD)
    async with database.connection() as conn:
        _, [entry] = await log.follow(conn, after=5, page=100)
    assert (entry.position, entry.event_id) == (6, event_id)
    assert await floor_and_head(database) == (6, 6)


async def test_what_a_group_has_not_passed_stays(database: Database, redis: Redis) -> None:
    for number in range(3):
        await move(database, redis, OLD + timedelta(days=number), events=10)
    await stand_at(database, "quick", 30)
    await stand_at(database, "slow", 15)
    assert await cut(database, keep_days=7, now=TODAY) == 10, "the first day is passed by both"
    assert metrics.RETENTION_HELD._value.get() == 2
    await stand_at(database, "slow", 19)
    assert await cut(database, keep_days=7, now=TODAY) == 0, "one event of the second day is left"
    await stand_at(database, "slow", 20)
    assert await cut(database, keep_days=7, now=TODAY) == 10
    async with database.connection() as conn:
        assert await Q.remove_consumer(conn, consumer_group="slow") == "slow"
    assert await cut(database, keep_days=7, now=TODAY) == 10
    assert metrics.RETENTION_HELD._value.get() == 0


async def test_the_warning_names_who_is_behind(
    database: Database, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await move(database, redis, OLD, events=2)
    await stand_at(database, "quick", 2)
    await stand_at(database, "slow", 1)
    await cut(database, keep_days=7, now=TODAY)
    told = [record for record in caplog.records if record.msg == "retention.group_is_behind"]
    assert [vars(record)["group"] for record in told] == ["slow"]


async def test_a_cursor_from_before_a_cut_is_expired_and_a_newer_one_is_good(
    database: Database, redis: Redis, people: People
) -> None:
    await move(database, redis, OLD, events=3)
    async with serving(database, redis, people, replace(FAST, hub_ring=1)) as node:
        token, _ = people.sign_in()
        early = await WsClient.open(node, token)
        await early.close()
        await move(database, redis, TODAY - timedelta(days=1), events=3)
        await node.realtime._hub.refresh()
        newer = await WsClient.open(node, token)
        await newer.close()
        await move(database, redis, TODAY, events=3)
        await node.realtime._hub.refresh()
        assert await cut(database, keep_days=0, now=TODAY) == 6
        again = await WsClient.open(node, token, cursor=early.cursor)
        assert (again.first["recovered"], again.first.get("reason")) == (False, "expired")
        await again.close()
        again = await WsClient.open(node, token, cursor=newer.cursor)
        assert again.first["recovered"] is True
        await again.close()
        # and with nothing left at all
        assert await cut(database, keep_days=0, now=TODAY + timedelta(days=1)) == 3
        stream = await SseClient.open(node, token, last_event_id=newer.cursor)
        assert (stream.first["recovered"], stream.first.get("reason")) == (False, "expired")
        await stream.close()


async def test_a_cut_under_traffic_stops_nobody(database: Database, redis: Redis, people: People) -> None:
    """Somebody reads the log for long; the cut waits for a moment without making others wait for it."""
    for number in range(5):
        await move(database, redis, OLD + timedelta(days=number), events=5)
    async with serving(database, redis, people) as node, relaying(database, redis):
        token, me = people.sign_in()
        socket = await WsClient.open(node, token)
        held = asyncio.Event()
        may_end = asyncio.Event()

        async def read_for_long() -> None:
            async with database.transaction() as conn:
                await conn.raw.fetch("SELECT count(*) FROM event_log")
                held.set()
                await may_end.wait()

        reader = asyncio.create_task(read_for_long())
        await held.wait()
        cutting = asyncio.create_task(cut(database, keep_days=7, now=TODAY))
        sent: list[str] = []
        loop = asyncio.get_running_loop()
        slowest_s = 0.0
        began = loop.time()
        while loop.time() - began < 3 * retention.PAUSE_S:
            at = loop.time()
            sent.extend(await emit(database, signed_up(me.user_id)))
            await reached(lambda: socket.event_ids == sent)
            slowest_s = max(slowest_s, loop.time() - at)
        assert not cutting.done()
        may_end.set()
        await reader
        assert await cutting == 25
        sent.extend(await emit(database, signed_up(me.user_id)))
        await reached(lambda: socket.event_ids == sent)
        assert slowest_s < 1.5, "a tenth of a second for each try, and what this machine takes"
        await socket.close()


async def test_a_cut_gives_up_when_there_is_no_moment_for_it(
    database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move(database, redis, OLD)
    monkeypatch.setattr(retention, "TRIES", 2)

    async def cut_meanwhile() -> None:
        with pytest.raises(StorageBusy):
            await cut(database, keep_days=7, now=TODAY)

    async with database.transaction() as conn:
        await conn.raw.fetch("SELECT FROM event_log")
        await asyncio.create_task(cut_meanwhile())
    assert await floor_and_head(database) == (1, 1)


async def test_the_job_makes_days_ahead_and_keeps_those_of_the_option(database: Database, redis: Redis) -> None:
    for ago in (3, 2, 1):
        await move(database, redis, TODAY - timedelta(days=ago))
    job = Retention(database, replace(FAST, log_keep_days=2))
    assert await job.keep_days() == 1
    assert await job.keep_days() == 0
    assert list(await days_of(database)) == [TODAY + timedelta(days=number) for number in range(-2, 3)]


async def test_days_on_which_nothing_happened_go_too(database: Database, redis: Redis) -> None:
    async with database.transaction() as conn:
        await Q.ensure_days(conn, first=OLD, days=3)
    await move(database, redis, OLD + timedelta(days=1), events=2)
    assert await cut(database, keep_days=7, now=TODAY) == 2
    assert min(await days_of(database)) >= TODAY


async def test_inbox_rows_go_with_their_events(database: Database, redis: Redis) -> None:
    await move(database, redis, OLD)
    await move(database, redis, TODAY + timedelta(days=30))  # by a relay whose clock is wrong
    async with database.connection() as conn:
        for number, ago in enumerate((30, 9, 8, 7, 0)):
            await conn.raw.execute(
                "INSERT INTO consumer_inbox VALUES ('g', $1, $2)",
                f"evt_{number}", datetime.now(UTC) - timedelta(days=ago),
            )  # fmt: skip
        await cut(database, keep_days=7, now=TODAY)
        left = await conn.raw.fetch("SELECT event_id FROM consumer_inbox ORDER BY event_id")
    assert [row["event_id"] for row in left] == ["evt_4"]


INSERT = """
    INSERT INTO event_log (shard, day, position, event_id, type, subject, channels, data, happened_at, sequence)
    SELECT 0, $1, position, 'evt_' || position || random(), 'x.y', 's', '{}', '{}', now(), position
    FROM unnest($2::bigint[]) AS position
"""


@pytest.mark.parametrize(
    ("day", "wrong"),
    [
        (OLD + timedelta(days=1), [8]),  # a hole
        (OLD + timedelta(days=1), [7, 9]),
        (OLD + timedelta(days=1), [6]),  # given already, on this day
        (OLD + timedelta(days=1), [2]),  # given already, on another one
        (OLD, [7]),  # in a day that is over
        (TODAY, [7]),  # in a day that has not begun
    ],
)
async def test_the_database_refuses_what_does_not_continue_the_log(
    database: Database, redis: Redis, day: date, wrong: list[int]
) -> None:
    for number in range(2):
        await move(database, redis, OLD + timedelta(days=number), events=3)
    async with database.connection() as conn:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await conn.raw.execute(INSERT, day, wrong)
        await conn.raw.execute(INSERT, OLD + timedelta(days=1), [7, 8])
    assert positions(await log_of(database)) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_the_application_may_cut_a_beginning_and_nothing_else(database: Database, redis: Redis) -> None:
    for number in range(2):
        await move(database, redis, OLD + timedelta(days=number))
    partition = f"event_log_{OLD:%Y_%m_%d}"
    async with database.connection() as conn:
        for statement in (
            f"INSERT INTO {partition} SELECT * FROM event_log",
            f"DELETE FROM {partition}",
            f"DROP TABLE {partition}",
            "CREATE TABLE mine (id int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.raw.execute(statement)
        with pytest.raises(asyncpg.RaiseError, match="there is a day before"):
            await Q.drop_day(conn, day=OLD + timedelta(days=1))


def roll_back_from(dsn: str, number: str) -> None:
    """Undo a step and those after it."""
    backend = get_backend(dsn.replace("postgresql://", "postgresql+psycopg://"))
    try:
        applied = backend.to_rollback(read_migrations(str(STEPS)))
        backend.rollback_migrations(applied.filter(lambda step: step.id >= number))
    finally:
        backend.connection.close()


async def test_a_filled_log_is_taken_apart_into_days_and_put_together_again(
    owner_dsn: str, owner_database: Database, database: Database, redis: Redis
) -> None:
    for number in range(3):
        await move(database, redis, OLD + timedelta(days=number), events=20)
    kept = await log_of(database)
    await owner_database.disconnect()
    await database.disconnect()
    roll_back_from(owner_dsn, "0010")
    with psycopg.connect(owner_dsn, autocommit=True) as plain:
        count = plain.execute("SELECT count(*), min(position), max(position) FROM event_log").fetchone()
        assert count == (60, 1, 60)
        with pytest.raises(psycopg.errors.UniqueViolation):
            plain.execute("INSERT INTO event_log SELECT * FROM event_log LIMIT 1")
        # what was there was moved on three days, and around a midnight by two relays that took turns
        plain.execute("UPDATE event_log SET recorded_at = '2026-03-01T10:00Z' WHERE position <= 20")
        plain.execute("UPDATE event_log SET recorded_at = '2026-03-01T23:59:59.9Z' WHERE position IN (30, 32)")
        plain.execute("UPDATE event_log SET recorded_at = '2026-03-02T00:00:00.1Z' WHERE position BETWEEN 21 AND 29")
        plain.execute(
            "UPDATE event_log SET recorded_at = '2026-03-02T00:00:00.1Z' WHERE position = 31 OR position > 32"
        )
        plain.execute("UPDATE event_log SET recorded_at = '2026-03-04T12:00Z' WHERE position > 50")
        whole = plain.execute("SELECT position, event_id, recorded_at, sequence FROM event_log ORDER BY 1").fetchall()
    assert migrate(owner_dsn) > 0
    await database.connect()
    assert await log_of(database) == kept
    async with database.connection() as conn:
        begun = {day: first for day, first in (await days_of(database)).items() if first}
        rows = await conn.raw.fetch("SELECT position, event_id, recorded_at, sequence FROM event_log ORDER BY position")
    assert begun == {date(2026, 3, 1): 1, date(2026, 3, 2): 21, date(2026, 3, 4): 51}
    assert [tuple(row) for row in rows] == whole
    [event_id] = await move(database, redis, TODAY)
    assert [(entry.position, entry.event_id) for entry in (await log_of(database))[60:]] == [(61, event_id)]
    assert await cut(database, keep_days=7, now=TODAY) == 60
