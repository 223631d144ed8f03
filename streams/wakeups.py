"""A Redis subscription that is allowed to lose messages but not to do so unnoticed.

Redis only says that there may be something to read; what there is stands in the log. redis-py reconnects and
resubscribes in silence, and a half-open connection is silent for ever, so:
- every subscribe confirmation counts as "messages may have been missed";
- the subscriber hears its own heartbeat on a channel of its own; after `heartbeats_missed` without a sound the
  connection is given up and a new one is made.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, cast

from storage.redis import Redis, RedisError
from streams import metrics
from streams.options import StreamOptions

logger = logging.getLogger(__name__)

SUBSCRIBED = "subscribe"
CHANNELS = 2  # of a connection: the wake-ups and the heartbeat


def raise_if_cancelled() -> None:
    """Raise the cancellation that redis-py 8.1 swallowed: it loses those that arrive while it connects.

    To be called after its calls in every loop that is ended by cancelling, outside of `asyncio.timeout`.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Wakeups:
    """One subscriber connection; `on_wake(payload | None)` is called for each message, with None for a hole.

    `on_wake` must not block: it runs between two reads of the socket.
    """

    def __init__(self, redis: Redis, channel: str, on_wake: Callable[[bytes | None], None], options: StreamOptions):
        self._redis = redis
        self._channel = channel
        self._on_wake = on_wake
        self._options = options
        self._beat_channel = f"streams:beat:{secrets.token_hex(8)}"
        self.resubscribed = 0

    async def run(self) -> None:
        """Listen until cancelled. Redis being away costs latency only, so no fault of it ends this."""
        while True:
            try:
                await self._listen()
            except Exception as fault:
                logger.warning("streams.redis_lost", extra={"fault": type(fault).__name__, "channel": self._channel})
            raise_if_cancelled()
            self._on_wake(None)
            await asyncio.sleep(self._options.heartbeat_s)

    async def _listen(self) -> None:
        pubsub: Any = self._redis.pubsub()
        beat = asyncio.create_task(self._beat())
        try:
            async with asyncio.timeout(self._silence_s):
                await pubsub.subscribe(self._channel, self._beat_channel)
            await self._read(pubsub)
        finally:
            beat.cancel()
            # closed without waiting for the peer: it may be the one that does not answer
            await pubsub.aclose()

    async def _read(self, pubsub: Any) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            # get_message reconnects by itself, and may take its time; the timeout around it is the watchdog
            async with asyncio.timeout(self._silence_s):
                message = await pubsub.get_message(timeout=self._options.heartbeat_s)
            raise_if_cancelled()
            if message is not None:
                heard = loop.time()
                self._handle(message)
            elif loop.time() - heard > self._silence_s:
                raise TimeoutError("no heartbeat")

    def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] == SUBSCRIBED:
            self.resubscribed += 1
            if self.resubscribed > CHANNELS and message["channel"] == self._channel.encode():
                metrics.RESUBSCRIBES.inc()
            self._on_wake(None)
        elif message["channel"] == self._channel.encode():
            self._on_wake(message["data"])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._options.heartbeat_s)
            try:
                async with asyncio.timeout(self._options.heartbeat_s):
                    await cast(Awaitable[Any], self._redis.publish(self._beat_channel, b""))
            except (RedisError, OSError) as fault:
                logger.info("streams.heartbeat_failed", extra={"fault": type(fault).__name__})
            raise_if_cancelled()

    @property
    def _silence_s(self) -> float:
        return self._options.heartbeat_s * self._options.heartbeats_missed
