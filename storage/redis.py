"""Redis (or Valkey) through `redis.asyncio`, where aioredis lives on (docs/adr/0002-redis-asyncio.md)."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.exceptions import RedisError

__all__ = ["Redis", "RedisError", "connect"]

CONNECT_TIMEOUT_S = 2.0
HEALTH_CHECK_S = 10


def connect(url: str) -> Redis:
    """A client with a pool of its own; close it with `aclose()`."""
    return Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_S, health_check_interval=HEALTH_CHECK_S)
