"""A named query beside the driver's own call and beside `databases`, on one connection: `python -m tests.bench.storage_bench`."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import databases

from storage import sql
from storage.db import Database
from storage.embedded import EmbeddedPostgres

ROUNDS = 15
CALLS = 1000
STATEMENT = "SELECT id, name, amount, doc FROM t WHERE id = "
Q = sql.parse(f"-- name: one^\n{STATEMENT}:id;\n", origin="bench")
SETUP = """
CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric, doc jsonb);
INSERT INTO t SELECT n, 'name ' || n, n * 1.01, '{"a": 1}' FROM generate_series(1, 1000) n;
"""


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "data")
        server.start()
        try:
            await measure(server.dsn())
        finally:
            server.stop()


async def measure(dsn: str) -> None:
    database = Database(dsn, pool_min=1, pool_max=1)
    await database.connect()
    plain = databases.Database(dsn, min_size=1, max_size=1)
    await plain.connect()
    async with database.connection() as conn, plain.connection() as other:
        await conn.raw.execute(SETUP)
        raw = conn.raw._con  # the connection itself, without the pool's proxy: the fastest there is

        ways: dict[str, Callable[[int], Awaitable[Any]]] = {
            "raw asyncpg": lambda n: raw.fetchrow(f"{STATEMENT}$1", n),
            "named query": lambda n: Q.one(conn, id=n),
            "databases": lambda n: other.fetch_one(f"{STATEMENT}:id", {"id": n}),
        }
        samples: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                begin = time.perf_counter()
                for n in range(1, CALLS + 1):
                    await way(n % 1000 + 1)
                samples[name].append((time.perf_counter() - begin) / CALLS * 1e6)
    ratios = {
        name: [sample / base for sample, base in zip(found, samples["raw asyncpg"], strict=True)]
        for name, found in samples.items()
    }
    print("| one row by key, same server | µs | ÷ raw asyncpg (median, min–max of paired rounds) |\n|---|---:|---:|")
    for name, found in samples.items():
        ratio = ratios[name]
        print(
            f"| {name} | {statistics.median(found):.0f} "
            f"| {statistics.median(ratio):.2f} ({min(ratio):.2f}–{max(ratio):.2f}) |"
        )
    await plain.disconnect()
    await database.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
