"""A relay in a process of its own, to be killed: python -m tests.streams.relay_process DSN REDIS_URL LEASE_S."""

from __future__ import annotations

import asyncio
import sys

from storage import redis as storage_redis
from storage.db import Database
from streams.options import StreamOptions
from streams.relay import Relay


async def main(dsn: str, redis_url: str, lease_s: float) -> None:
    database = Database(dsn, pool_min=1, pool_max=2, application_name="relay-process")
    await database.connect()
    options = StreamOptions(relay_lease_s=lease_s, relay_takeover_s=0.2, relay_batch=20)
    await Relay(database, storage_redis.connect(redis_url), options).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
