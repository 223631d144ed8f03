"""The poster: who travels together, who waits, who is told to come back, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.errors import AppError, StorageBusy
from contracts.events import Event
from contracts.money import Money
from ledger import accounts, balances, checks, journal, recipes
from ledger.journal import Leg, Posted, Posting, credit, debit
from ledger.poster import Poster, Results, post_only
from ledger.refusals import InsufficientFunds, KeyReused
from storage.db import Connection, Database
from streams import outbox
from tests.money.wire import once, wire

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAYER, HOST = (accounts.wallet(user, "INR") for user in ("usr_a", "usr_b"))
GRACE_S = 10.0


def rupees(text: str) -> Money:
    return Money.parse(text, "INR")


def deposit(user: str = "usr_a", amount: str = "100.00") -> Posting:
    return recipes.deposit(
        user_id=user, gateway="razorpay", payment_id=f"pay_{user}", deposit_id=f"dep_{user}", amount=rupees(amount),
        happened_at=NOW,
    )  # fmt: skip


def transfer(key: str, amount: str = "1.00") -> Posting:
    return Posting(key, "transfer", "", NOW, (debit(PLAYER, rupees(amount)), credit(HOST, rupees(amount))))


class Recorder:
    """A `write` that tells an event of each set that is written now, can be held up, and knows who travelled together.

    It takes several statements, so that a batch can be held up and cut off between any two, and a transaction for them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.batches: list[list[Any]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, _: Connection, sets: Sequence[tuple[Posting, ...]], effects: Sequence[Any]) -> Results:
        async with self._database.transaction() as conn:
            results = await journal.post_many(conn, sets)
            written = [
                effect for effect, result in zip(effects, results, strict=True)
                if not isinstance(result, AppError) and not result[0].replayed
            ]  # fmt: skip
            if written:
                self.batches.append(written)
            for effect in written:
                if effect is not None:
                    await outbox.append(conn, Event("test.posted", str(effect), ("user:x",), {}))
            await self.open.wait()
        return results

    async def held(self) -> None:
        """Return once a batch waits here."""
        before = len(self.batches)
        self.open.clear()
        async with asyncio.timeout(GRACE_S):
            while len(self.batches) == before:
                await asyncio.sleep(0)


@asynccontextmanager
async def posting(database: Database, record: Recorder | None = None, **options: Any) -> AsyncIterator[Poster]:
    poster = Poster(database, write=record or post_only, **options)
    poster.start()
    try:
        yield poster
    finally:
        if record is not None:
            record.open.set()
        await poster.stop()


@pytest.fixture(autouse=True)
async def funded(database: Database) -> AsyncIterator[None]:
    """A hundred rupees to begin with, and books that are right at the end."""
    async with database.transaction() as conn:
        await journal.post(conn, deposit())
    yield
    async with database.connection() as conn:
        assert await checks.violations(conn) == []


async def keys(database: Database) -> list[str]:
    async with database.connection() as conn:
        rows = await conn.raw.fetch("SELECT key FROM ledger.transactions WHERE kind = 'transfer' ORDER BY recorded_at")
    return [row["key"] for row in rows]


async def told(database: Database) -> Counter[str]:
    """How often each effect's event was told."""
    async with database.connection() as conn:
        return Counter(row["subject"] for row in await conn.raw.fetch("SELECT subject FROM outbox"))


async def available(database: Database, account: accounts.Account) -> str:
    async with database.connection() as conn:
        return (await balances.balance(conn, account)).available.wire()


async def test_the_first_leaves_at_once_and_those_that_come_meanwhile_leave_together(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1) as poster:
        first = asyncio.create_task(poster.post(transfer("t0"), effect=0))
        await record.held()
        rest = [asyncio.create_task(poster.post(transfer(f"t{n}"), effect=n)) for n in range(1, 9)]
        await asyncio.sleep(0)
        record.open.set()
        results = await asyncio.gather(first, *rest)
    assert record.batches == [[0], list(range(1, 9))]
    assert [posted.line(HOST).sequence for (posted,) in results] == list(range(1, 10))
    assert await keys(database) == [f"t{n}" for n in range(9)]


async def test_of_many_a_flight_takes_its_share_and_leaves_the_rest_to_gather(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1) as poster:
        first = asyncio.create_task(poster.post(transfer("t0"), effect=0))
        await record.held()
        rest = [asyncio.create_task(poster.post(transfer(f"t{n}"), effect=n)) for n in range(1, 41)]
        await asyncio.sleep(0)
        record.open.set()
        await asyncio.gather(first, *rest)
    assert [len(batch) for batch in record.batches] == [1, 20, 10, 8, 2]


async def test_no_batch_is_greater_than_it_may_be(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1, batch=4) as poster:
        await asyncio.gather(*(poster.post(transfer(f"t{n}"), effect=n) for n in range(10)))
    assert [len(batch) for batch in record.batches] == [4, 4, 2]


async def test_one_that_is_refused_takes_only_itself_down(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1) as poster:
        results = await asyncio.gather(
            poster.post(transfer("a"), effect="a"), poster.post(transfer("b", "100.00"), effect="b"),
            poster.post(transfer("c"), effect="c"), return_exceptions=True,
        )  # fmt: skip
    assert [type(result) for result in results] == [tuple, InsufficientFunds, tuple]
    assert record.batches == [["a", "c"]]
    assert await keys(database) == ["a", "c"]


async def test_one_that_no_ledger_takes_takes_only_itself_down(database: Database) -> None:
    too_fine = (Leg(PLAYER, Decimal("-0.005")), Leg(HOST, Decimal("0.005")))
    record = Recorder(database)
    async with posting(database, record, flights=1) as poster:
        results = await asyncio.gather(
            poster.post(transfer("a"), effect="a"),
            poster.post(Posting("bad", "transfer", "", NOW, too_fine), effect="bad"),
            poster.post(transfer("b"), effect="b"),
            poster.post(transfer("c"), transfer("c"), effect="twice"),  # one key for two
            poster.post(transfer("d"), effect="d"),
            return_exceptions=True,
        )
        assert [type(result) for result in results[::2]] == [tuple, tuple, tuple]
        assert isinstance(results[1], asyncpg.PostgresError)
        assert isinstance(results[3], ValueError)
        await poster.post(transfer("after"), effect="after")
    assert await keys(database) == ["a", "b", "d", "after"]
    assert await told(database) == {"a": 1, "b": 1, "d": 1, "after": 1}


async def test_a_linked_set_stands_or_falls_as_a_whole(database: Database) -> None:
    async with posting(database) as poster:
        with pytest.raises(InsufficientFunds):
            await poster.post(transfer("a"), transfer("b", "100.00"))
        written = await poster.post(transfer("c"), transfer("d"))
    assert [posted.replayed for posted in written] == [False, False]
    assert await keys(database) == ["c", "d"]


async def test_the_same_key_twice_in_the_queue_is_written_once(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record) as poster:
        results = await asyncio.gather(
            *(poster.post(transfer("same"), effect="same") for _ in range(5)),
            poster.post(transfer("other"), effect="o"),
        )
        with pytest.raises(KeyReused):
            await poster.post(transfer("same", "2.00"))
    assert [posted.replayed for (posted,) in results] == [False, True, True, True, True, False]
    assert len({posted.transaction_id for (posted,) in results[:5]}) == 1
    assert await told(database) == {"same": 1, "o": 1}


async def test_a_repeat_of_what_is_on_its_way_waits_for_it(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=2) as poster:
        first = asyncio.create_task(poster.post(transfer("same"), effect=1))
        await record.held()
        again = asyncio.create_task(poster.post(transfer("same"), effect=2))
        other = asyncio.create_task(poster.post(transfer("other"), effect=3))
        async with asyncio.timeout(GRACE_S):
            while len(record.batches) < 2:  # the second flight takes the other one along, and leaves the repeat
                await asyncio.sleep(0.001)
                record.open.set()
        assert [(await task)[0].replayed for task in (first, again, other)] == [False, True, False]
    assert sorted(map(tuple, record.batches)) == [(1,), (3,)]


async def test_a_full_queue_refuses_at_once(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1, queue=2) as poster:
        tasks = [asyncio.create_task(poster.post(transfer("t0"), effect=0))]
        await record.held()
        tasks += [asyncio.create_task(poster.post(transfer(f"t{n}"), effect=n)) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(StorageBusy) as refusal:
            await poster.post(transfer("t3"))
        assert refusal.value.headers == {"Retry-After": "1"}
        record.open.set()
        await asyncio.gather(*tasks)
        await poster.post(transfer("t3"))
    assert await keys(database) == ["t0", "t1", "t2", "t3"]


async def test_nobody_waits_longer_than_the_deadline_and_the_key_tells_what_became_of_it(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1, deadline_s=0.2) as poster:
        on_its_way = asyncio.create_task(poster.post(transfer("left"), effect=1))
        await record.held()
        waiting = asyncio.create_task(poster.post(transfer("stayed"), effect=2))
        for task in (on_its_way, waiting):
            with pytest.raises(StorageBusy):
                await task
        record.open.set()
        (left,) = await poster.post(transfer("left"), effect=3)
        assert await keys(database) == ["left"]  # whoever gave up before leaving was not posted behind its back
        (stayed,) = await poster.post(transfer("stayed"), effect=4)
    assert (left.replayed, stayed.replayed) == (True, False)
    assert await told(database) == {"1": 1, "4": 1}


async def test_a_caller_that_goes_away_harms_nobody(database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1) as poster:
        on_its_way = asyncio.create_task(poster.post(transfer("left"), effect=1))
        await record.held()
        waiting = asyncio.create_task(poster.post(transfer("stayed"), effect=2))
        other = asyncio.create_task(poster.post(transfer("other"), effect=3))
        await asyncio.sleep(0)
        for task in (on_its_way, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        record.open.set()
        assert not (await other)[0].replayed
        assert (await poster.post(transfer("left")))[0].replayed
    assert await keys(database) == ["left", "other"]


async def test_stopping_posts_what_waits_and_takes_nothing_more(database: Database) -> None:
    record = Recorder(database)
    poster = Poster(database, write=record, flights=2, batch=3)
    poster.start()
    tasks = [asyncio.create_task(poster.post(transfer(f"t{n}"), effect=n)) for n in range(20)]
    await record.held()
    stopping = asyncio.create_task(poster.stop())
    await asyncio.sleep(0)
    with pytest.raises(StorageBusy):
        await poster.post(transfer("late"))
    record.open.set()
    await stopping
    assert all(task.done() for task in tasks)
    assert len(await keys(database)) == 20


async def test_stopping_without_a_database_ends_at_the_deadlines(database_dsn: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with wire(database_dsn, Path(folder)) as lost:
            database = Database(lost.dsn)
            await database.connect()
            poster = Poster(database, deadline_s=0.3)
            poster.start()
            lost.cut = lambda _: "before"
            tasks = [asyncio.create_task(poster.post(transfer(f"t{n}"))) for n in range(5)]
            await asyncio.sleep(0)
            async with asyncio.timeout(GRACE_S):
                await poster.stop()
            for task in tasks:
                with pytest.raises(StorageBusy):
                    await task
            await database.disconnect()


CUTS = {
    "before the transaction": (b"BEGIN", "before", False),
    "before the posting": (b"key-of-this", "before", False),
    "after the posting": (b"key-of-this", "after", False),
    "after the events": (b"test.posted", "after", False),
    "before the commit": (b"COMMIT", "before", False),
    "after the commit": (b"COMMIT", "after", True),
    "last words in a transaction": (b"BEGIN", "last words", False),
    "last words after the posting": (b"key-of-this", "last words", False),
}


@pytest.mark.parametrize(("marker", "when", "replayed"), CUTS.values(), ids=CUTS)
async def test_an_answer_that_got_lost_is_asked_for_again(
    database: Database, database_dsn: str, marker: bytes, when: Any, replayed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with wire(database_dsn, Path(folder)) as lossy:
            behind = Database(lossy.dsn)
            await behind.connect()
            async with posting(behind, Recorder(behind)) as poster:
                lossy.cut = once(marker, when)
                (posted,) = await poster.post(transfer("key-of-this"), effect="e")
            await behind.disconnect()
    assert (lossy.cuts, posted.replayed) == (1, replayed)
    assert await keys(database) == ["key-of-this"]
    assert await told(database) == {"e": 1}
    assert (await available(database, PLAYER), await available(database, HOST)) == ("99.00", "1.00")


async def test_last_words_between_two_batches_are_no_fault_of_the_next(database: Database, database_dsn: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with wire(database_dsn, Path(folder)) as lossy:
            behind = Database(lossy.dsn)
            await behind.connect()
            async with posting(behind, Recorder(behind), flights=1, batch=1) as poster:
                lossy.cut = once(b"COMMIT", "last words")
                results = await asyncio.gather(*(poster.post(transfer(f"t{n}"), effect=n) for n in range(3)))
            await behind.disconnect()
    assert (lossy.cuts, [posted.replayed for (posted,) in results]) == (1, [False] * 3)
    assert await told(database) == {"0": 1, "1": 1, "2": 1}


async def test_a_session_that_the_server_ends_is_replaced(database: Database, owner_database: Database) -> None:
    record = Recorder(database)
    async with posting(database, record, flights=1) as poster:
        first = asyncio.create_task(poster.post(transfer("t0"), effect=0))
        await record.held()
        second = asyncio.create_task(poster.post(transfer("t1"), effect=1))
        async with owner_database.connection() as conn:
            ended = await conn.raw.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
        record.open.set()
        await asyncio.gather(first, second)
    assert ended == 1
    assert await keys(database) == ["t0", "t1"]
    assert await told(database) == {"0": 1, "1": 1}


async def test_a_storm_of_lost_connections_loses_nothing_and_doubles_nothing(
    database: Database, database_dsn: str
) -> None:
    """Thirty callers who repeat themselves until they are answered, on a wire that is cut at random."""
    seed = int(os.environ.get("POSTER_SEED", "0")) or random.randrange(2**32)
    print(f"POSTER_SEED={seed}")
    dice = random.Random(seed)
    wanted = [f"storm-{n}" for n in range(300)]
    answered: dict[str, list[Posted]] = {}
    refused = 0

    def cut(data: bytes) -> Any:
        marked = any(marker in data for marker in (b"BEGIN", b"COMMIT", b"storm-", b"test.posted"))
        return dice.choice(["before", "after"]) if marked and dice.random() < 0.15 else None

    async def caller(own: list[str], poster: Poster) -> None:
        nonlocal refused
        for key in own:
            for _ in range(dice.choice([1, 1, 2])):
                while True:
                    try:
                        (posted,) = await poster.post(transfer(key, "0.01"), effect=key)
                    except StorageBusy:
                        refused += 1
                    else:
                        answered.setdefault(key, []).append(posted)
                        break

    with tempfile.TemporaryDirectory() as folder:
        async with wire(database_dsn, Path(folder)) as lossy:
            behind = Database(lossy.dsn)
            await behind.connect()
            async with posting(behind, Recorder(behind), flights=2, batch=8, deadline_s=0.5) as poster:
                lossy.cut = cut
                async with asyncio.timeout(60):
                    await asyncio.gather(*(caller([*wanted[n::30], wanted[n * 7 % 300]], poster) for n in range(30)))
                lossy.cut = lambda _: None
            await behind.disconnect()
    print(f"{lossy.cuts} cuts, {refused} refused, {sum(map(len, answered.values()))} answered")
    assert lossy.cuts > 0
    assert sorted(await keys(database)) == sorted(answered) == sorted(wanted)
    assert await told(database) == dict.fromkeys(wanted, 1)
    for same in answered.values():
        assert len({(posted.transaction_id, posted.recorded_at, posted.lines) for posted in same}) == 1
    assert await available(database, HOST) == "3.00"
