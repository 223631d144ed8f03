"""A random walk through everything that can happen to the log and its groups at once; the seed is printed."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta

import psycopg
import pytest
from redis.asyncio import Redis

from contracts.errors import StorageBusy
from storage.db import Connection, Database
from streams import log, outbox
from streams.consumer import Consumer, Consumers
from streams.log import LogEntry
from streams.relay import Relay
from streams.replay import send_back
from streams.retention import cut
from tests.streams.harness import FAST, reached, signed_up, user_id
from tests.streams.test_consumer import QUICK
from tests.streams.test_retention import OLD

STEPS = 120
GROUPS = ("one", "two")


class ChangedMyMind(Exception):
    pass


@dataclass
class Walk:
    """Who writes, reads, cuts and kills; `written` is what must have its effect in each group, once and in order."""

    db: Database
    admin: psycopg.Connection[tuple[object, ...]]
    dice: random.Random
    day: date = OLD
    latest: date = OLD
    written: list[str] = field(default_factory=list)
    gone: int = 0
    done: Counter[str] = field(default_factory=Counter)

    async def write(self) -> None:
        """Some transactions; a few are rolled back."""
        for _ in range(self.dice.randint(1, 12)):
            events = [signed_up(user_id()) for _ in range(self.dice.randint(1, 5))]
            with suppress(ChangedMyMind):
                async with self.db.transaction() as conn:
                    for event in events:
                        await outbox.append(conn, event)
                    if self.dice.random() < 0.2:
                        raise ChangedMyMind
                self.written += [event.id for event in events]

    async def pass_a_day(self) -> None:
        self.latest += timedelta(days=self.dice.choice((1, 1, 1, 3)))
        self.day = self.latest

    async def turn_the_clock_back(self) -> None:
        self.day -= timedelta(days=self.dice.randint(1, 5))

    async def kill_a_session(self) -> None:
        """Of the relay or of a consumer, in whatever it is doing."""
        sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()"
        pids = [row[0] for row in await asyncio.to_thread(lambda: self.admin.execute(sessions).fetchall())]
        for pid in self.dice.sample(pids, min(len(pids), self.dice.randint(1, 2))):
            await asyncio.to_thread(self.admin.execute, "SELECT pg_terminate_backend(%s)", [pid])

    async def send_a_group_back(self) -> None:
        await send_back(self.db, self.dice.choice(GROUPS), since=None, again=False)

    async def cut(self) -> None:
        with suppress(StorageBusy):
            self.gone += await cut(self.db, keep_days=self.dice.randint(0, 2), now=self.latest)

    async def let_them_read(self) -> None:
        await reached(self.everything_is_done, within_s=60, what="every effect")

    async def step(self) -> None:
        ways = {
            self.write: 8, self.pass_a_day: 3, self.turn_the_clock_back: 1, self.kill_a_session: 3,
            self.send_a_group_back: 2, self.cut: 3, self.let_them_read: 3,
        }  # fmt: skip
        [way] = self.dice.choices(list(ways), list(ways.values()))
        await way()
        self.done[way.__name__] += 1

    async def effects(self, group: str) -> list[str]:
        async with self.db.connection() as conn:
            rows = await conn.raw.fetch("SELECT event_id FROM effects WHERE consumer_group = $1 ORDER BY id", group)
        return [row["event_id"] for row in rows]

    async def everything_is_done(self) -> bool:
        return all([len(await self.effects(group)) >= len(self.written) for group in GROUPS])


def effect(group: str) -> Consumer:
    async def handle(conn: Connection, entry: LogEntry) -> None:
        insert = "INSERT INTO effects (consumer_group, event_id) VALUES ($1, $2)"
        await conn.raw.execute(insert, group, entry.event_id)

    return Consumer(group, handle)


@pytest.mark.parametrize("round_number", range(2))
async def test_every_event_has_its_effect_once_through_days_cuts_replays_and_deaths(
    owner_dsn: str, owner_database: Database, redis: Redis, round_number: int
) -> None:
    seed = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    victim = Database(owner_dsn, pool_max=8, application_name="victim")
    await victim.connect()
    async with owner_database.connection() as conn:
        await conn.raw.execute(
            "CREATE TABLE effects (id bigserial PRIMARY KEY, consumer_group text NOT NULL, event_id text NOT NULL)"
        )
    with psycopg.connect(owner_dsn, autocommit=True) as admin:
        walk = Walk(owner_database, admin, random.Random(seed))
        relay = Relay(victim, redis, FAST, today=lambda: walk.day)
        consumers = Consumers(victim, redis, [effect(group) for group in GROUPS], QUICK)
        running = [asyncio.create_task(relay.run()), asyncio.create_task(consumers.run())]
        try:
            await reached(lambda: groups_are_known(owner_database), what="both groups")
            for _ in range(STEPS):
                await walk.step()
            await walk.let_them_read()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await victim.disconnect()
    print(f"{len(walk.written)} events, {walk.gone} cut: {walk.done}")
    for group in GROUPS:
        assert await walk.effects(group) == walk.written
    async with owner_database.connection() as conn:
        head, floor = await log.head(conn), await log.floor(conn)
        _, left = await log.follow(conn, after=floor - 1, page=100_000)
    assert (head.position, floor) == (len(walk.written), walk.gone + 1)
    assert [(entry.position, entry.event_id) for entry in left] == [*enumerate(walk.written[walk.gone :], start=floor)]


async def groups_are_known(database: Database) -> bool:
    async with database.connection() as conn:
        return bool(await conn.raw.fetchval("SELECT count(*) FROM consumer_positions") == len(GROUPS))
