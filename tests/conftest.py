"""Real servers for every test that needs one: PostgreSQL and Valkey from wheels, a fresh database per test.

One server of each kind for the whole run; one template database with every migration, cloned for each test.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from redis.asyncio import Redis

from storage import redis as storage_redis
from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.migrations import migrate

TEMPLATE = "matchday_template"
APPLICATION = "matchday_test"  # a login with the application's rights, and no more


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that the user whom PostgreSQL runs as can enter; pytest keeps its own closed to others."""
    with tempfile.TemporaryDirectory(prefix="matchday-test-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a stack of this test's own."""
    with server_folder() as folder:
        yield folder / "home"


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server without durability (a test's data never outlives it), holding the migrated template."""
    fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
    with server_folder() as folder:
        server = EmbeddedPostgres(folder / "data", settings=fast)
        server.start()
        try:
            _admin(server, f"CREATE DATABASE {TEMPLATE}")
            migrate(server.dsn(TEMPLATE))
            _admin(server, f"CREATE ROLE {APPLICATION} LOGIN IN ROLE matchday_app")
            yield server
        finally:
            server.stop()


@pytest.fixture
def owner_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database of this test's own, as its owner."""
    name = f"test_{secrets.token_hex(6)}"
    _admin(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield postgres.dsn(name)
    finally:
        _admin(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_dsn(owner_dsn: str) -> str:
    """The URL of the same database as the application connects to it."""
    return owner_dsn.replace("//postgres@", f"//{APPLICATION}@")


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    database = Database(database_dsn, pool_min=1, pool_max=20)
    await database.connect()
    try:
        yield database
    finally:
        await database.disconnect()


@pytest.fixture
async def owner_database(owner_dsn: str) -> AsyncIterator[Database]:
    """The same database with its owner's rights, for tests that make tables or break what guards them."""
    database = Database(owner_dsn, pool_min=1, pool_max=20)
    await database.connect()
    try:
        yield database
    finally:
        await database.disconnect()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey") / "data")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client on an empty server."""
    client = storage_redis.connect(valkey.url)
    await client.flushall()
    try:
        yield client
    finally:
        await client.aclose()


def _admin(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(statement)
