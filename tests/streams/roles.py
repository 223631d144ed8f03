"""What the kill suite kills: a node, a relay, a writer; each a process: python -m tests.streams.roles ROLE JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import uvloop

from contracts import ids
from contracts.events import Event
from contracts.principal import Principal
from storage import redis as storage_redis
from storage.db import Connection, Database
from streams import outbox
from streams.options import StreamOptions
from streams.relay import Relay
from tests.streams.harness import CONTRACT, Node, People

LEASE_S = 2.0
TOKEN_S = (8.0, 60.0)
# Rotation and pings many times in a short run; everything that concerns recovery is as in production.
NODE_OPTIONS = StreamOptions(ping_s=1.0, max_lifetime_s=20.0, reconnect_min_ms=20, reconnect_max_ms=200)
ROLLED_BACK, LOCKED = 0.1, 0.5
# How long a transaction stays open after its last event, in seconds, and how often.
OPEN_S = ((0.0, 0.0, 0.8), (0.0, 0.2, 0.15), (0.2, 1.5, 0.05))
LANES = 12
SILENCE_S = 6.0  # as in production


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The arguments of every role."""

    name: str
    dsn: str
    redis_url: str
    port: int = 0
    seed: int = 0
    rate: int = 0  # events a second
    users: tuple[str, ...] = ()
    book: str = ""

    def command(self, role: str) -> list[str]:
        return [sys.executable, "-m", "tests.streams.roles", role, json.dumps(asdict(self))]


class Anybody(People):
    """Lets everybody read everything, for a time that nobody knows."""

    async def authenticate(self, token: str) -> Principal:
        until = datetime.now(UTC) + timedelta(seconds=random.uniform(*TOKEN_S))
        return Principal(ids.new("usr"), ids.new("ses"), frozenset(), until)

    async def may_read(self, whose: Any, channel: str) -> bool:
        return True


async def node(told: Told) -> None:
    """A web process on a port that clients know; a message that is not in the contract ends it with an error."""
    database = Database(told.dsn, pool_min=1, pool_max=6, silence_s=SILENCE_S, application_name=told.name)
    await database.connect()
    serving = Node(database, storage_redis.connect(told.redis_url), Anybody(), NODE_OPTIONS, port=told.port)
    try:
        await serving.start()
        while not serving.violations:
            await asyncio.sleep(0.1)
    finally:
        await serving.close()
    raise AssertionError(f"not in the contract: {serving.violations}")


async def relay(told: Told) -> None:
    database = Database(told.dsn, pool_min=1, pool_max=2, silence_s=SILENCE_S, application_name=told.name)
    await database.connect()
    options = StreamOptions(relay_lease_s=LEASE_S, relay_takeover_s=0.2)
    await Relay(database, storage_redis.connect(told.redis_url), options).run()


class RolledBack(Exception):
    """A business transaction that thinks better of it."""


class Writer:
    """Commits events in transactions of 1 to 5, of which some roll back and some stay open for a while.

    Its book says of each transaction what it asked to commit, and what it was told. Half of the transactions lock the
    user they tell of; their version rises in commit order, as that of a row would.
    """

    def __init__(self, told: Told, database: Database, book: TextIO) -> None:
        self._told = told
        self._database = database
        self._dice = random.Random(told.seed)
        self._book = book
        self._due = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        await asyncio.gather(*(asyncio.create_task(self._lane()) for _ in range(LANES)))

    async def _lane(self) -> None:
        while not self._stopping:
            user = self._dice.randrange(len(self._told.users))
            events = [self._event(user) for _ in range(self._dice.randint(1, 5))]
            await self._pace(len(events))
            await self._transaction(user, events)

    async def _pace(self, events: int) -> None:
        now = time.monotonic()
        self._due = max(self._due, now - 0.5) + events / self._told.rate
        await asyncio.sleep(max(0.0, self._due - now))

    async def _transaction(self, user: int, events: list[Event]) -> None:
        key = ids.new("trf")
        asked = False
        try:
            async with self._database.transaction() as conn:
                version = await self._append(conn, user, events)
                if self._dice.random() < ROLLED_BACK:
                    raise RolledBack
                self._write("asked", key, events=[event.id for event in events], user=user, version=version)
                asked = True
            self._write("committed", key, count=len(events))
        except RolledBack:
            self._write("rolled_back", key, events=[event.id for event in events])
        except Exception as fault:
            # before the question nothing can have been committed; after it nobody knows
            self._write("unknown" if asked else "failed", key, fault=type(fault).__name__)
            await asyncio.sleep(0.05)

    async def _append(self, conn: Connection, user: int, events: list[Event]) -> int | None:
        version = None
        if self._dice.random() < LOCKED:
            await conn.raw.execute("SELECT pg_advisory_xact_lock(7, $1::int)", user)
            version = time.monotonic_ns()
        for event in events:
            await outbox.append(conn, event)
        ((least, most, _),) = self._dice.choices(OPEN_S, [weight for *_, weight in OPEN_S])
        await asyncio.sleep(self._dice.uniform(least, most))
        return version

    def _event(self, user: int) -> Event:
        user_id = self._told.users[user]
        amount = {"amount": f"{self._dice.randrange(10_000)}.{self._dice.randrange(100):02}", "currency": "INR"}
        kind = self._dice.choice(("user", "wallet", "payment"))
        if kind == "user":
            data: dict[str, Any] = {"user_id": user_id, "verified_at": datetime.now(UTC).isoformat()}
            return Event("user.signed_up", user_id, (f"user:{user_id}",), data)
        if kind == "wallet":
            data = {
                "transaction_id": ids.new("txn"), "amount": amount, "balance": {"available": amount}, "kind": "deposit",
                "reference": user_id.replace("usr_", "dep_"),
            }  # fmt: skip
            return Event("wallet.credited", user_id, (f"wallet:{user_id}",), data)
        deposit_id = user_id.replace("usr_", "dep_")
        data = {"deposit_id": deposit_id, "amount": amount, "status": "created", "gateway": "razorpay"}
        return Event("deposit.started", deposit_id, (f"user:{user_id}", f"payment:{deposit_id}"), data)

    def _write(self, what: str, key: str, **facts: Any) -> None:
        self._book.write(json.dumps({"what": what, "tx": key, **facts}) + "\n")


async def writer(told: Told) -> None:
    """Write until SIGTERM, then finish what was begun."""
    database = Database(told.dsn, pool_min=1, pool_max=LANES, application_name=told.name)
    await database.connect()
    redis = storage_redis.connect(told.redis_url)
    poker = outbox.Poker(redis)
    database.on_commit(outbox.APPENDED, poker)
    outbox.observers.append(CONTRACT.check_event)
    with Path(told.book).open("a", buffering=1, encoding="utf-8") as book:
        writing = Writer(told, database, book)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, writing.stop)
        await writing.run()
    await poker.close()
    await redis.aclose()
    await database.disconnect()


ROLES = {"node": node, "relay": relay, "writer": writer}

if __name__ == "__main__":
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s %(fault)s", defaults={"fault": ""}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ROLES[sys.argv[1]](Told(**json.loads(sys.argv[2]))))
