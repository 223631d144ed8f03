"""A client for any application of these tests, closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from tests.contract.runtime.harness import server_of

Connect = Callable[[web.Application], Awaitable[TestClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[TestClient] = []

    async def start(app: web.Application) -> TestClient:
        client = TestClient(server_of(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()
