"""What the processes count, as Prometheus sees it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import ClientError, ClientSession
from aiohttp.test_utils import unused_port
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from matchday import metrics, processes
from matchday.home import Home
from matchday.supervisor import Stack
from storage.db import Database
from storage.embedded import EmbeddedValkey
from streams.consumer import Consumer
from streams.relay import Relay
from tests.streams.harness import emit, reached, relaying, settled, signed_up, user_id
from tests.streams.test_consumer import consuming, position_of

START_S = 60.0
KNOWN_LABELS = {"group", "transport", "outcome", "reason", "source", "le"}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"matchday_{name}", labels) or 0.0


async def test_a_relay_tells_that_it_leads_what_waits_and_how_late_it_is(database: Database, redis: Redis) -> None:
    await emit(database, *(signed_up(user_id()) for _ in range(30)))
    batches, lag = value("relay_lag_seconds_count"), value("relay_lag_seconds_sum")
    async with relaying(database, redis):
        await settled(database)
        assert value("relay_leading") == 1
        assert value("outbox_waiting_events") == 30, "counted before the first batch"
    assert value("relay_leading") == 0
    assert value("relay_lag_seconds_count") == batches + 1
    assert 0 < value("relay_lag_seconds_sum") - lag < 60


async def test_a_subscription_that_was_lost_is_counted(database: Database, redis: Redis, relay: Relay) -> None:
    await reached(lambda: relay.leading)

    async def subscribed() -> bool:
        return bool(await redis.pubsub_numsub("streams:poke:0") == [(b"streams:poke:0", 1)])

    await reached(subscribed)
    before = value("wakeup_resubscribes_total")
    await redis.client_kill_filter(_type="pubsub")
    await reached(lambda: value("wakeup_resubscribes_total") == before + 1, what="one new subscription, counted once")


async def test_a_group_tells_how_far_behind_it_is_and_what_it_gave_up(
    database: Database, redis: Redis, relay: Relay
) -> None:
    async def fails(conn: object, entry: object) -> None:
        raise ValueError("never")

    await emit(database, signed_up(user_id()), signed_up(user_id()))
    await settled(database)
    async with consuming(database, redis, [Consumer("measured", fails)]):
        await reached(lambda: value("consumer_lag_events", group="measured") == 2)

        async def passed() -> bool:
            return await position_of(database, "measured") == 2

        await reached(passed)
        await reached(lambda: value("consumer_lag_events", group="measured") == 0)
    assert value("dead_letters_total", group="measured") == 2


@asynccontextmanager
async def role(name: str, environment: dict[str, str]) -> AsyncIterator[Process]:
    """`matchday NAME` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "matchday", name, env={**os.environ, **environment}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def test_each_role_serves_its_own_when_it_is_told_a_port(
    database: Database, database_dsn: str, valkey: EmbeddedValkey, redis: Redis, home: Path
) -> None:
    home.mkdir()
    settings = {"DATABASE_URL": database_dsn, "REDIS_URL": valkey.url}
    ports = {"relay": unused_port(), "consumers": unused_port()}
    environments = {
        name: Home(home).environment({**settings, "METRICS_PORT": str(port)}) for name, port in ports.items()
    }

    async def told(name: str, line: str) -> bool:
        with suppress(ClientError):
            response = await session.get(f"http://127.0.0.1:{ports[name]}/metrics")
            return line in (await response.text()).splitlines()
        return False

    async with (
        ClientSession() as session,
        role("relay", environments["relay"]),
        role("consumers", environments["consumers"]),
    ):
        await reached(lambda: told("relay", "matchday_relay_leading 1.0"), within_s=START_S)
        await emit(database, signed_up(user_id()), signed_up(user_id()))
        await reached(
            lambda: told("consumers", 'matchday_consumer_lag_events{group="analytics"} 0.0'), within_s=START_S
        )
        await reached(lambda: counted(database, 2))
        assert await told("relay", "matchday_relay_lag_seconds_count 1.0")


async def counted(database: Database, events: int) -> bool:
    async with database.connection() as conn:
        return bool(await conn.raw.fetchval("SELECT sum(events) FROM event_counts") == events)


def test_on_one_machine_each_role_has_the_port_after_the_one_before(home: Path) -> None:
    home.mkdir()
    stack = Stack(Home(home), {"METRICS_PORT": "9100"}, say=print, log_dir=None)
    assert [stack._metrics_port(number)["METRICS_PORT"] for number in range(3)] == ["9100", "9101", "9102"]
    assert Stack(Home(home), {}, say=print, log_dir=None)._metrics_port(1) == {}


async def test_prometheus_reads_them_on_a_port_of_their_own() -> None:
    port = unused_port()
    async with processes.site(metrics.runner(), "127.0.0.1", port), ClientSession() as session:
        response = await session.get(f"http://127.0.0.1:{port}/metrics")
        assert response.status == 200 and response.content_type == "text/plain"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert {"matchday_relay_lag_seconds", "matchday_connections", "process_resident_memory_bytes"} <= families.keys()
    ours = [family for name, family in families.items() if name.startswith("matchday_")]
    assert {label for family in ours for sample in family.samples for label in sample.labels} <= KNOWN_LABELS
