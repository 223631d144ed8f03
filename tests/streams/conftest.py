from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from storage.db import Database
from streams import outbox
from streams.relay import Relay
from tests.streams.harness import CONTRACT, Node, People, relaying, serving


@pytest.fixture(autouse=True)
def contract_of_events() -> Iterator[None]:
    """Every event that a test emits is one that events.yaml describes."""
    outbox.observers.append(CONTRACT.check_event)
    yield
    outbox.observers.remove(CONTRACT.check_event)


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
async def relay(database: Database, redis: Redis) -> AsyncIterator[Relay]:
    async with relaying(database, redis) as relay:
        yield relay


@pytest.fixture
async def node(database: Database, redis: Redis, people: People) -> AsyncIterator[Node]:
    async with serving(database, redis, people) as node:
        yield node
