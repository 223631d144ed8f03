"""What the processes count, as Prometheus sees it."""

from __future__ import annotations

from aiohttp import ClientSession
from aiohttp.test_utils import unused_port
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from matchday import metrics, processes
from storage.db import Database
from streams.consumer import Consumer
from streams.relay import Relay
from tests.streams.harness import emit, reached, relaying, settled, signed_up, user_id
from tests.streams.test_consumer import consuming, position_of

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


async def test_prometheus_reads_them_on_a_port_of_their_own() -> None:
    port = unused_port()
    async with processes.site(metrics.runner(), "127.0.0.1", port), ClientSession() as session:
        response = await session.get(f"http://127.0.0.1:{port}/metrics")
        assert response.status == 200 and response.content_type == "text/plain"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert {"matchday_relay_lag_seconds", "matchday_connections", "process_resident_memory_bytes"} <= families.keys()
    ours = [family for name, family in families.items() if name.startswith("matchday_")]
    assert {label for family in ours for sample in family.samples for label in sample.labels} <= KNOWN_LABELS
