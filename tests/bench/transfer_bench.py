"""Transfers through the whole API beside the database underneath it:
`python -m tests.bench.transfer_bench [--rounds N] [--seconds S] [--users N]`.

One `matchday serve` as it is deployed, on PostgreSQL and Valkey from wheels with every setting at its default, so that a
transfer is on the disk before it is answered. The yardstick is pgbench on the same server: the same transfer in several
round trips, without an application. It runs before and after the API in each round; a figure is the median of the ratios
of the rounds. Latency is counted from when a request was due, at half the rate that the round before it reached. At the
end the books are audited, and every transfer that was answered is counted again. Linux only: processor time is in /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

import psycopg
from aiohttp.test_utils import unused_port

from contracts import ids
from contracts.errors import AppError
from contracts.money import Money
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, TokenConfig
from ledger import checks, journal, recipes
from matchday import config
from matchday.config import Config
from matchday.home import Home
from matchday.supervisor import APPLICATION_ROLE, DATABASE, LOGIN, Child, DidNotStart
from matchday.wiring import USER_SCOPES
from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.migrations import migrate
from tests.bench.ledger_bench import HOT, NAIVE, RANDOM, Pgbench
from tests.bench.transfer_load import Done, Load, User, drive

HERE = Path(__file__).parent
YARDSTICK = "yardstick"
SESSIONS = 16
LIFETIME = timedelta(hours=6)
FUNDS = Money(Decimal(1_000_000), "INR")
BATCH = 100
WARM_UP_S = 60
TICKS = os.sysconf("SC_CLK_TCK")
P99_MS = 25


@dataclass
class Way:
    """One workload, and what the rounds found. Processor seconds are those of the rounds at full rate."""

    name: str
    kind: Literal["random", "hot"]
    script: str
    reach: float
    yardsticks: list[float] = field(default_factory=list)
    full: list[Done] = field(default_factory=list)
    half: list[Done] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def rates(self) -> list[float]:
        return [done.per_second for done in self.full]

    @property
    def answered(self) -> int:
        return sum(done.answered for done in self.full + self.half)


@dataclass(frozen=True)
class Product:
    """What runs: `used` reads the processor seconds that each part of it has used so far."""

    settings: Config
    users: Sequence[User]
    pgbench: Pgbench
    used: Callable[[], dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--users", type=int, default=2000)
    options = parser.parse_args()
    ways = [
        Way("random sender and receiver", "random", NAIVE.format(other=RANDOM), 0.8),
        Way("one hot account receives all", "hot", NAIVE.format(other=HOT), 2.0),
    ]
    spawn = multiprocessing.get_context("spawn")
    with running(options.users) as product, ProcessPoolExecutor(1, mp_context=spawn) as generator:
        # Tokens are verified, receivers and accounts known, before anything counts.
        warmed = _offer(generator, Load(product.settings.port, product.users, "each_once", WARM_UP_S))
        for _ in range(options.rounds):
            for way in ways:
                measure(product, generator, way, options.seconds)
        print_rates(ways)
        print_latencies(ways)
        print_processors(ways)
        answered = warmed.answered + sum(way.answered for way in ways)
        asyncio.run(audit(product.settings, answered))


def measure(product: Product, generator: Executor, way: Way, seconds: int) -> None:
    """One round: the yardstick, the API at full rate and at half of it, the yardstick."""
    yardstick = partial(product.pgbench.rate, YARDSTICK, SESSIONS, seconds, way.script)
    load = Load(product.settings.port, product.users, way.kind, seconds)
    first, before = yardstick(), product.used()
    full = _offer(generator, load)
    spent = {name: used - before[name] for name, used in product.used().items()} | {"load": full.cpu_s}
    way.cpu_s = {name: way.cpu_s.get(name, 0) + used for name, used in spent.items()}
    way.full.append(full)
    way.half.append(_offer(generator, replace(load, rate=full.per_second / 2)))
    way.yardsticks.append((first + yardstick()) / 2)


def _offer(generator: Executor, load: Load) -> Done:
    return generator.submit(drive, load).result()


@contextmanager
def running(users: int) -> Iterator[Product]:
    """The servers, the API and its users."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
        for server in (postgres, valkey):
            stack.callback(server.stop)
            server.start()
        for database in (DATABASE, YARDSTICK):
            postgres.ensure_database(database)
        migrate(postgres.dsn(DATABASE))
        postgres.ensure_login(LOGIN, member_of=APPLICATION_ROLE)
        (folder / "home").mkdir()
        environ = Home(folder / "home").environment(
            {
                "DATABASE_URL": postgres.dsn(DATABASE, user=LOGIN),
                "REDIS_URL": valkey.url,
                "WALLET_CLOSED_LOOP": "false",
                "MATCHDAY_PORT": str(unused_port()),
            }
        )
        settings = config.read(environ)
        people = asyncio.run(seed(settings, postgres.dsn(DATABASE), users))
        with psycopg.connect(postgres.dsn(YARDSTICK), autocommit=True) as connection:
            connection.execute((HERE / "naive.sql").read_text("utf-8"))
        for database in (DATABASE, YARDSTICK):
            with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        api = Child("serve", environ, stack.enter_context((folder / "serve.log").open("wb")))
        stack.callback(api.stop)
        try:
            asyncio.run(api.start())
        except DidNotStart as fault:
            raise RuntimeError((folder / "serve.log").read_text()) from fault
        assert postgres.process is not None and api.process is not None
        pids = {"server": api.process.pid, "PostgreSQL": postgres.process.pid}
        yield Product(
            settings, people, Pgbench(postgres, folder), lambda: {name: cpu_seconds(pid) for name, pid in pids.items()}
        )


async def seed(settings: Config, owner_url: str, count: int) -> list[User]:
    """Users with verified addresses, funded wallets, and a session each, whose token the API's own key signed."""
    database = Database(settings.database_url)
    tokens = AccessTokens(
        settings.token_keys,
        config=TokenConfig(issuer=settings.public_url, audience=settings.public_url),
        revocations=Revocations(database),
    )
    now = datetime.now(UTC)
    user_ids = [ids.new("usr") for _ in range(count)]
    sessions = [ids.new("ses") for _ in range(count)]
    with psycopg.connect(owner_url) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY users (id, email, email_key, email_verified_at, display_name) FROM STDIN") as copy:
            for user_id in user_ids:
                copy.write_row((user_id, f"{user_id}@example.com", f"{user_id}@example.com", now, "Player"))
        with cursor.copy("COPY sessions (id, user_id, scopes, expires_at) FROM STDIN") as copy:
            for session, user_id in zip(sessions, user_ids, strict=True):
                copy.write_row((session, user_id, list(USER_SCOPES), now + LIFETIME))
    deposits = [
        recipes.deposit(
            user_id=user_id, gateway="razorpay", payment_id=f"pay_{n}", deposit_id=ids.new("dep"), amount=FUNDS,
            happened_at=now,
        )
        for n, user_id in enumerate(user_ids)
    ]  # fmt: skip
    await database.connect()
    for first in range(0, count, BATCH):
        async with database.transaction() as conn:
            found = await journal.post_many(conn, [(deposit,) for deposit in deposits[first : first + BATCH]])
            assert not any(isinstance(result, AppError) for result in found)
    await database.disconnect()
    return [
        User(
            user_id, tokens.issue(user_id=user_id, session_id=session, scopes=USER_SCOPES, at=now, until=now + LIFETIME)
        )
        for user_id, session in zip(user_ids, sessions, strict=True)
    ]


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used, those that ended included, in user and system mode."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        own = path.parent.name == str(pid)
        if own or fields[1] == str(pid):
            ticks += sum(map(int, fields[11:15] if own else fields[11:13]))
    return ticks / TICKS


def print_rates(ways: Sequence[Way]) -> None:
    print("| durable transfers | per second | ÷ pgbench (median, min–max of rounds) | to reach |\n|---|---:|---:|---:|")
    for way in ways:
        ratios = [rate / yardstick for rate, yardstick in zip(way.rates, way.yardsticks, strict=True)]
        print(
            f"| pgbench, several round trips, {SESSIONS} sessions: {way.name} | {statistics.median(way.yardsticks):,.0f} | 1.00 | |"
        )
        print(
            f"| through HTTP, 32 connections: {way.name} | {statistics.median(way.rates):,.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | ≥ {way.reach} |"
        )


def print_latencies(ways: Sequence[Way]) -> None:
    print("\n| at half of that rate | p50 ms | p99 ms (median, min–max of rounds) | to reach |\n|---|---:|---:|---:|")
    for way in ways:
        p50 = statistics.median(_percentile(done, 50) for done in way.half)
        p99 = [_percentile(done, 99) for done in way.half]
        print(f"| {way.name} | {p50:.1f} | {statistics.median(p99):.1f} ({min(p99):.1f}–{max(p99):.1f}) | ≤ {P99_MS} |")


def print_processors(ways: Sequence[Way]) -> None:
    names = list(ways[0].cpu_s)
    print(f"\n| CPU seconds at full rate (µs for each transfer) | {' | '.join(names)} | of |")
    print("|---|" + "---:|" * (len(names) + 1))
    for way in ways:
        answered = sum(done.answered for done in way.full)
        cells = [f"{way.cpu_s[name]:.1f} ({way.cpu_s[name] / answered * 1e6:.0f})" for name in names]
        there_were = sum(done.seconds for done in way.full) * len(os.sched_getaffinity(0))
        print(f"| {way.name} | {' | '.join(cells)} | {there_were:.1f} |")


def _percentile(done: Done, percent: int) -> float:
    return done.latencies[len(done.latencies) * percent // 100] * 1000


async def audit(settings: Config, answered: int) -> None:
    """Raises RuntimeError when the books are wrong, or are not what was answered."""
    database = Database(settings.database_url, statement_timeout_s=600)
    await database.connect()
    try:
        async with database.transaction(isolation="repeatable_read", readonly=True) as conn:
            found = await checks.violations(conn)
            written, told = await conn.raw.fetchrow(
                "SELECT (SELECT count(*) FROM ledger.transactions WHERE kind = 'transfer'), (SELECT count(*) FROM outbox)"
            )
    finally:
        await database.disconnect()
    if found or (written, told) != (answered, 2 * answered):
        raise RuntimeError(f"{answered} transfers were answered, {written} written, {told} events; {found}")
    print(f"\n{written:,} transfers were answered with 201, as many are in the books, and the audit finds nothing.")


if __name__ == "__main__":
    main()
