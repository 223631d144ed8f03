"""Relays die, freeze and lose their session; the log stays whole and in order."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import psycopg
import pytest
from redis.asyncio import Redis

from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from streams.options import StreamOptions
from streams.relay import LOCK_CLASS, Relay
from tests.streams.harness import emit, log_of, reached, relaying, settled, signed_up, user_id
from tests.streams.link import Link
from tests.streams.roles import SILENCE_S

TAKEOVER_S = 5.0
AS_IN_PRODUCTION = StreamOptions()


@asynccontextmanager
async def relay_process(dsn: str, valkey: EmbeddedValkey, *, lease_s: float) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.streams.relay_process", dsn, valkey.url, str(lease_s),
        stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def leader(dsn: str) -> tuple[int, str] | None:
    """Backend and application of the session that holds the relay's lock."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.classid = %s AND l.granted"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [LOCK_CLASS],
        ).fetchone()
    return None if row is None else (row[0], row[1])


class Writer:
    """Commits events one after another until told to stop."""

    def __init__(self, database: Database) -> None:
        self.written: list[str] = []
        self._database = database
        self._stopping = False
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while not self._stopping:
            self.written += await emit(self._database, signed_up(user_id()))

    async def stop(self) -> list[str]:
        self._stopping = True
        await self._task
        return self.written


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_leader_is_killed_or_frozen_and_another_takes_over(
    database: Database, database_dsn: str, redis: Redis, valkey: EmbeddedValkey, sign: signal.Signals
) -> None:
    """With the lease and the patience of production."""
    async with relay_process(database_dsn, valkey, lease_s=AS_IN_PRODUCTION.relay_lease_s) as process:
        await reached(lambda: (leader(database_dsn) or (0, ""))[1] == "relay-process", what="the first leader")
        async with relaying(database, redis, AS_IN_PRODUCTION) as stand_by:
            writer = Writer(database)
            await reached(lambda: log_of(database), what="something moved by the first leader")
            assert not stand_by.leading
            process.send_signal(sign)
            await reached(lambda: stand_by.leading, within_s=TAKEOVER_S, what="a new leader")
            moved_by_first = len(await log_of(database))
            await reached(lambda: len(writer.written) > moved_by_first + 50)
            if sign is signal.SIGSTOP:
                # the frozen leader wakes up believing that it leads, and finds its session gone
                process.send_signal(signal.SIGCONT)
                await reached(lambda: len(writer.written) > moved_by_first + 100)
            written = await writer.stop()
            entries = await settled(database)
    assert [entry.event_id for entry in entries] == written
    assert [entry.position for entry in entries] == list(range(1, len(written) + 1))
    assert moved_by_first > 0


@pytest.mark.parametrize("way", ["cut", "lost", "stalled"])
async def test_the_leaders_network_fails_and_another_takes_over(
    database: Database, database_dsn: str, postgres: EmbeddedPostgres, redis: Redis, way: str
) -> None:
    """Reset, silent on the connections there are, or silent altogether; then it comes back as a stand-by."""
    link = Link("postgres", postgres.socket_dir / ".s.PGSQL.5432")
    await link.open()
    far = Database(linked(database_dsn, link), pool_min=1, pool_max=2, silence_s=SILENCE_S)
    await far.connect()
    dice = random.Random(0)
    try:
        async with relaying(far, redis, AS_IN_PRODUCTION) as first:
            await reached(lambda: first.leading)
            async with relaying(database, redis, AS_IN_PRODUCTION) as second:
                writer = Writer(database)
                await reached(lambda: log_of(database), what="something moved by the first leader")
                if way == "cut":
                    link.stall()
                    link.cut(dice)
                elif way == "lost":
                    link.lose(dice)
                else:
                    link.stall()
                await reached(lambda: second.leading, within_s=TAKEOVER_S, what="a new leader")
                moved = len(await log_of(database))
                await reached(lambda: len(writer.written) > moved + 50)
                await reached(lambda: not first.leading, what="a first leader that knows")
                link.flow()
                link.cut(dice)
            # the second has left
            await reached(lambda: first.leading, within_s=2 * TAKEOVER_S, what="the first leader again")
            written = await writer.stop()
            entries = await settled(database)
        assert [entry.event_id for entry in entries] == written
        assert [entry.position for entry in entries] == list(range(1, len(written) + 1))
    finally:
        await far.disconnect()
        await link.close()


def linked(dsn: str, link: Link) -> str:
    """The same database through a link."""
    parts = urlsplit(dsn)
    return f"postgresql://{parts.username}@127.0.0.1:{link.port}{parts.path}?sslmode=disable"


async def test_the_leaders_session_is_ended_by_the_server_and_it_leads_again(
    database: Database, database_dsn: str, redis: Redis
) -> None:
    async with relaying(database, redis) as relay:
        await reached(lambda: relay.leading)
        writer = Writer(database)
        for _ in range(5):
            await reached(lambda: leader(database_dsn) is not None, within_s=TAKEOVER_S)
            before = leader(database_dsn)
            assert before is not None
            with psycopg.connect(database_dsn, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", [before[0]])
            await reached(lambda old=before: leader(database_dsn) not in (None, old), within_s=TAKEOVER_S)
        written = await writer.stop()
        assert [entry.event_id for entry in await settled(database)] == written


async def test_only_one_of_many_leads(database: Database, redis: Redis) -> None:
    async with relaying(database, redis) as one, relaying(database, redis) as two, relaying(database, redis) as three:
        relays = [one, two, three]
        await reached(lambda: any(relay.leading for relay in relays))
        written = [event_id for _ in range(20) for event_id in await emit(database, signed_up(user_id()))]
        assert [entry.event_id for entry in await settled(database)] == written
        assert sum(relay.leading for relay in relays) == 1


async def test_two_that_both_believe_to_lead_do_not_tear_the_log(database: Database, redis: Redis) -> None:
    """The lock is order in the house; the row lock on the shard's end is what keeps the log whole."""
    written = [event_id for _ in range(100) for event_id in await emit(database, signed_up(user_id()))]

    async def lead() -> None:
        relay = Relay(database, redis, StreamOptions(relay_batch=7))
        async with database.connection() as conn:
            while await relay._move(conn):
                pass

    await asyncio.gather(*(asyncio.create_task(lead()) for _ in range(4)))
    entries = await settled(database)
    assert [entry.position for entry in entries] == list(range(1, 101))
    assert sorted(entry.event_id for entry in entries) == sorted(written)
