"""The pool: what it gives back, what it refuses, what it runs again."""

from __future__ import annotations

import asyncio
import random
import time
from decimal import Decimal
from functools import partial

import asyncpg
import pytest

from contracts.errors import StorageBusy
from storage import db
from storage.db import Connection, Database
from storage.embedded import EmbeddedPostgres
from tests.streams.link import Link


@pytest.fixture
def database(owner_database: Database) -> Database:
    """With its owner's rights: these tests make tables."""
    return owner_database


async def test_a_commit_that_is_refused_gives_its_connection_back(owner_dsn: str) -> None:
    database = Database(owner_dsn, pool_max=1, acquire_timeout_s=0.5)
    await database.connect()
    try:
        async with database.connection() as conn:
            await conn.raw.execute("CREATE TABLE t (a int, CONSTRAINT once UNIQUE (a) DEFERRABLE INITIALLY DEFERRED)")
        for _ in range(3):
            with pytest.raises(asyncpg.UniqueViolationError):
                async with database.transaction() as conn:
                    await conn.raw.execute("INSERT INTO t VALUES (1), (1)")
        async with database.connection() as conn:
            assert await conn.raw.fetchval("SELECT count(*) FROM t") == 0
    finally:
        await asyncio.wait_for(database.disconnect(), 5)


@pytest.mark.parametrize("inside", ["connection", "transaction"])
async def test_a_task_that_lost_its_server_can_go_on(owner_dsn: str, inside: str) -> None:
    database = Database(owner_dsn, pool_max=2)
    await database.connect()
    try:
        for _ in range(3):
            with pytest.raises(StorageBusy):
                async with getattr(database, inside)() as conn:
                    pid = conn.raw.get_server_pid()
                    await asyncio.create_task(_terminate(database, pid))
                    await conn.raw.fetchval("SELECT 1")
        assert await _use(database) == 1
    finally:
        await asyncio.wait_for(database.disconnect(), 5)


async def test_a_lost_server_does_not_swallow_a_cancellation(database: Database) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as conn:
            await asyncio.create_task(_terminate(database, conn.raw.get_server_pid()))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_free_connection_is_503_in_time(owner_dsn: str) -> None:
    database = Database(owner_dsn, pool_max=1, acquire_timeout_s=0.1)
    await database.connect()
    try:
        async with database.connection():
            with pytest.raises(StorageBusy) as busy:
                await asyncio.create_task(_use(database))
        assert busy.value.status == 503
        assert busy.value.headers["Retry-After"] == "1"
        assert await asyncio.create_task(_use(database)) == 1
    finally:
        await database.disconnect()


async def test_a_statement_that_runs_too_long_is_503(owner_dsn: str) -> None:
    database = Database(owner_dsn, pool_max=1, statement_timeout_s=0.1)
    await database.connect()
    try:
        with pytest.raises(StorageBusy):
            async with database.transaction() as conn:
                await conn.raw.execute("SELECT pg_sleep(5)")
        assert await _use(database) == 1
    finally:
        await database.disconnect()


async def test_a_connection_that_is_not_given_back_does_not_hold_up_the_end(
    owner_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(db, "CLOSE_S", 0.2)
    database = Database(owner_dsn)
    await database.connect()
    has_it, never = asyncio.Event(), asyncio.Event()

    async def keep() -> None:
        async with database.connection():
            has_it.set()
            await never.wait()

    keeping = asyncio.create_task(keep())
    await has_it.wait()
    await asyncio.wait_for(database.disconnect(), 5)
    assert [record.getMessage() for record in caplog.records] == ["database.connection_not_returned"]
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_an_inner_transaction_is_a_savepoint(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.raw.execute("CREATE TABLE t (a int)")
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as inner:
                await inner.raw.execute("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError
        await conn.raw.execute("INSERT INTO t VALUES (2)")
    async with database.connection() as conn:
        assert await conn.raw.fetchval("SELECT array_agg(a) FROM t") == [2]


async def test_who_asked_is_told_after_the_outermost_commit_and_never_after_a_rollback(database: Database) -> None:
    told: list[int] = []
    async with database.connection() as conn:
        await conn.raw.execute("CREATE TABLE t (a int)")

    async def tell() -> None:
        async with database.connection() as conn:
            told.append(await conn.raw.fetchval("SELECT count(*) FROM t"))

    database.on_commit("grown", tell)
    async with database.transaction() as conn:
        async with database.transaction() as inner:
            await inner.raw.execute("INSERT INTO t VALUES (1)")
            inner.notes.add("grown")
        assert told == []
        await conn.raw.execute("INSERT INTO t VALUES (2)")
    assert told == [2]
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as conn:
            conn.notes.add("grown")
            raise ZeroDivisionError
    async with database.transaction():
        pass
    assert told == [2]


async def test_a_statement_by_itself_commits_and_is_told(database: Database) -> None:
    told: list[int] = []
    async with database.connection() as conn:
        await conn.raw.execute("CREATE TABLE t (a int CHECK (a > 0))")

    async def tell() -> None:
        async with database.connection() as conn:
            told.append(await conn.raw.fetchval("SELECT count(*) FROM t"))

    async def insert(number: int, conn: Connection) -> bool:
        await conn.raw.execute(f"INSERT INTO t VALUES ({number})")
        conn.notes.add("grown")
        return bool(conn.raw.is_in_transaction())

    database.on_commit("grown", tell)
    assert not await database.at_once(partial(insert, 1))
    assert told == [1]
    with pytest.raises(asyncpg.CheckViolationError):
        await database.at_once(partial(insert, 0))
    assert told == [1]
    assert not await database.at_once(partial(insert, 2))
    assert told == [1, 2]


async def test_a_statement_by_itself_is_run_again_three_times_at_most(database: Database) -> None:
    tries = 0

    async def work(conn: Connection) -> None:
        nonlocal tries
        tries += 1
        await conn.raw.execute("DO $$ BEGIN RAISE 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(StorageBusy):
        await database.at_once(work)
    assert tries == 3


@pytest.mark.parametrize("patience", ["its own", "the caller's"])
async def test_a_server_that_falls_silent_is_given_up_and_the_next_one_is_asked_at_once(
    owner_dsn: str, postgres: EmbeddedPostgres, patience: str
) -> None:
    """A router that forgot its connections: nothing comes back on them, and no end either."""
    link = Link("to PostgreSQL", postgres.socket_dir / ".s.PGSQL.5432")
    await link.open()
    name = owner_dsn.split("/")[3].partition("?")[0]
    database = Database(f"postgresql://postgres@127.0.0.1:{link.port}/{name}", pool_min=3, silence_s=1.0)
    await database.connect()
    try:
        assert await _use(database) == 1
        link.lose(random.Random(0))
        began = time.monotonic()
        if patience == "its own":
            with pytest.raises(StorageBusy):
                await _use(database)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), database.transaction() as conn:
                    await conn.raw.execute("SELECT 1")
            with pytest.raises(StorageBusy):
                await _use(database)
        assert await _use(database) == 1
        assert time.monotonic() - began < 3
    finally:
        await asyncio.wait_for(database.disconnect(), 5)
        await link.close()


async def test_one_who_gives_up_while_a_connection_is_given_back_gets_another(
    owner_dsn: str, postgres: EmbeddedPostgres
) -> None:
    """The network goes between a statement and the reset behind it; a task that lives on asks again."""
    link = Link("to PostgreSQL", postgres.socket_dir / ".s.PGSQL.5432")
    await link.open()
    name = owner_dsn.split("/")[3].partition("?")[0]
    dsn = f"postgresql://postgres@127.0.0.1:{link.port}/{name}"
    database = Database(dsn, pool_max=1, acquire_timeout_s=5, silence_s=1.0)
    await database.connect()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), database.connection() as conn:
                assert await conn.raw.fetchval("SELECT 1") == 1
                link.lose(random.Random(0))
        for _ in range(2):
            assert await _use(database) == 1
    finally:
        await asyncio.wait_for(database.disconnect(), 5)
        await link.close()


async def test_two_that_cannot_be_serialised_both_happen(database: Database) -> None:
    async with database.connection() as conn:
        await conn.raw.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
        await conn.raw.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
    meet = asyncio.Barrier(2)
    tries = 0

    async def move(first: int, second: int) -> None:
        async def work(conn: Connection) -> None:
            nonlocal tries
            tries += 1
            await conn.raw.execute("UPDATE t SET n = n + 1 WHERE id = $1", first)
            if tries <= 2:
                await meet.wait()
            await conn.raw.execute("UPDATE t SET n = n + 1 WHERE id = $1", second)

        await database.retrying(work)

    await asyncio.gather(move(1, 2), move(2, 1))
    async with database.connection() as conn:
        assert await conn.raw.fetchval("SELECT array_agg(n ORDER BY id) FROM t") == [2, 2]
    assert tries == 3


async def test_values_keep_their_types(database: Database) -> None:
    async with database.connection() as conn:
        row = await conn.raw.fetchrow("SELECT $1::jsonb AS doc, 0.10::numeric AS amount, now() AS at", {"a": [1, "ü"]})
    assert row["doc"] == {"a": [1, "ü"]}
    assert (row["amount"], str(row["amount"])) == (Decimal("0.10"), "0.10")
    assert row["at"].utcoffset().total_seconds() == 0


async def _use(database: Database) -> int:
    async with database.connection() as conn:
        return int(await conn.raw.fetchval("SELECT 1"))


async def _terminate(database: Database, pid: int) -> None:
    async with database.connection() as conn:
        await conn.raw.execute("SELECT pg_terminate_backend($1, 5000)", pid)
