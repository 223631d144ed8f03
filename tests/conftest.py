"""Real servers for every test that needs one: PostgreSQL and Valkey from wheels, a fresh database per test.

One server of each kind for the whole run; one template database with every migration, cloned for each test.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from redis.asyncio import Redis

from storage import redis as storage_redis
from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.migrations import migrate

TEMPLATE = "matchday_template"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server without durability (a test's data never outlives it), holding the migrated template."""
    server = EmbeddedPostgres(
        _readable(tmp_path_factory.mktemp("postgres")) / "data",
        settings={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"},
    )
    server.start()
    try:
        _admin(server, f"CREATE DATABASE {TEMPLATE}")
        migrate(server.dsn(TEMPLATE))
        yield server
    finally:
        server.stop()


@pytest.fixture
def database_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database of this test's own."""
    name = f"test_{secrets.token_hex(6)}"
    _admin(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield postgres.dsn(name)
    finally:
        _admin(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    database = Database(database_dsn, pool_min=1, pool_max=20)
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


def _readable(path: Path) -> Path:
    """As root the server runs as another user, who must be able to come this far."""
    for folder in (path, *path.parents):
        if folder.stat().st_mode & 0o011 == 0 and folder.owner() == "root":
            folder.chmod(folder.stat().st_mode | 0o011)
    return path
