"""The Redis subscription: never silently deaf, and gone when it is told to go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from storage import redis as storage_redis
from storage.embedded import EmbeddedValkey
from streams.options import StreamOptions
from streams.wakeups import Wakeups
from tests.streams.harness import FAST, reached

CHANNEL = "streams:test"


class Line:
    """A proxy on the way to Redis that can go quiet without closing anything: a half-open connection."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.frozen: set[int] = set()
        self.lines = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines += 1
        line = self.lines
        to_reader, to_writer = await asyncio.open_unix_connection(str(self._target))
        self._writers += [writer, to_writer]
        for source, sink in ((reader, to_writer), (to_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pump(line, source, sink)))

    async def _pump(self, line: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if line not in self.frozen:
                    sink.write(data)
        sink.close()

    def freeze(self) -> None:
        """What is connected now hears and says nothing more; new lines work."""
        self.frozen = set(range(1, self.lines + 1))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def line_to(valkey: EmbeddedValkey, folder: Path) -> AsyncIterator[tuple[Line, Redis]]:
    line = Line(valkey.socket_path)
    server = await asyncio.start_unix_server(line.accept, folder / "line.sock")
    client = storage_redis.connect(f"unix://{folder / 'line.sock'}")
    try:
        yield line, client
    finally:
        await client.aclose()
        server.close()
        await line.stop()


@asynccontextmanager
async def listening(client: Redis, options: StreamOptions) -> AsyncIterator[tuple[list[bytes | None], Wakeups]]:
    heard: list[bytes | None] = []
    wakeups = Wakeups(client, CHANNEL, heard.append, options)
    task = asyncio.create_task(wakeups.run())
    try:
        await reached(lambda: wakeups.resubscribed == 2, what="both channels")
        yield heard, wakeups
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.done()


async def test_a_half_open_connection_is_found_within_five_seconds_and_replaced(
    redis: Redis, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """With the interval of production: three heartbeats of a second."""
    async with (
        line_to(valkey, tmp_path) as (line, client),
        listening(client, replace(FAST, heartbeat_s=StreamOptions().heartbeat_s)) as (heard, wakeups),
    ):
        await redis.publish(CHANNEL, b"before")
        await reached(lambda: heard[-1] == b"before")
        line.freeze()
        frozen_at = time.monotonic()
        await redis.publish(CHANNEL, b"lost")
        await reached(lambda: wakeups.resubscribed == 4, within_s=8)
        assert time.monotonic() - frozen_at < 5.5
        assert heard[-1] is None, "the hole is told"
        await redis.publish(CHANNEL, b"after")
        await reached(lambda: heard[-1] == b"after")
        assert b"lost" not in heard


async def test_every_resubscription_is_told_as_a_hole(redis: Redis) -> None:
    async with listening(redis, FAST) as (heard, wakeups):
        for round_number in range(1, 4):
            holes = heard.count(None)
            await redis.client_kill_filter(_type="pubsub")
            await reached(lambda wanted=2 + 2 * round_number: wakeups.resubscribed >= wanted)
            assert heard.count(None) > holes
            await redis.publish(CHANNEL, b"%d" % round_number)
            await reached(lambda wanted=b"%d" % round_number: heard[-1] == wanted)


@pytest.mark.parametrize("steps", [*range(0, 40, 2), 60, 100, 200])
async def test_it_ends_when_cancelled_whatever_redis_py_is_doing(redis: Redis, steps: int) -> None:
    """redis-py swallows a cancellation that arrives while it connects; a process would hang at its end."""
    task = asyncio.create_task(Wakeups(redis, CHANNEL, lambda payload: None, FAST).run())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
