"""The outbox: an event commits together with the change that it tells, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from contracts.events import Event
from storage.db import Connection
from storage.redis import Redis, RedisError
from streams.log import SHARD, Q

logger = logging.getLogger(__name__)

POKE_TIMEOUT_S = 0.5
POKE_PAUSE_S = 0.01
# What a transaction notes on its connection, for `Database.on_commit`.
APPENDED = "outbox"

# Called with every event that `append` is about to write; tests put the contract here, so that an event which is not in
# contracts/events.yaml fails the very test that emits it.
observers: list[Callable[[Event], None]] = []


async def append(conn: Connection, event: Event, *, traceparent: str | None = None) -> None:
    """Write an event inside the caller's transaction. Effects: one row in `outbox`; a rollback leaves nothing.

    Lock order: after the rows that the event tells about, so that events of one subject stay in commit order.
    """
    for observe in observers:
        observe(event)
    await Q.append_outbox(
        conn, event_id=event.id, type=event.type, subject=event.subject, channels=list(event.channels),
        data=event.data, happened_at=event.time, traceparent=traceparent,
    )  # fmt: skip
    conn.notes.add(APPENDED)


class Poker:
    """Pokes the relay after commits without keeping anybody waiting: at once, and then once for all that commit shortly
    after one another.

    For `Database.on_commit`. Close it before its Redis client.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poke(), name="outbox-poke")

    async def close(self) -> None:
        """Wait for the last poke."""
        if self._task is not None:
            await self._task

    async def _poke(self) -> None:
        while self._wanted:
            self._wanted = False
            await poke(self._redis)
            await asyncio.sleep(POKE_PAUSE_S)


async def poke(redis: Redis) -> None:
    """Tell the relay after a commit that there is work. Best effort: it looks by itself many times a second."""
    try:
        async with asyncio.timeout(POKE_TIMEOUT_S):
            await redis.publish(poke_channel(SHARD), b"")
    except (RedisError, OSError) as fault:
        logger.info("streams.poke_lost", extra={"fault": type(fault).__name__})


def poke_channel(shard: int) -> str:
    """The Redis channel on which the relay of a shard is woken."""
    return f"streams:poke:{shard}"


def log_channel(shard: int) -> str:
    """The Redis channel on which the relay of a shard says that the log has grown."""
    return f"streams:log:{shard}"
