"""Bytes to one client that may be slow, gone, or frozen, without ever waiting for it.

    send ──▶ transport              while the client keeps up
         └─▶ queue ──▶ flusher ──▶ transport      once it does not; a task that lives as long as the queue

What says how things stand, and not what has happened, is sent under a key: in the queue, the newest of a key is enough.

A client that falls `queue_bytes` behind, or takes nothing for `write_deadline_s`, is given up: `close()` of a
transport waits for the unsent bytes, so only `abort()` frees the memory of a client that reads no more. What it
missed before it came (`expect`) is not held against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler

from streams.options import KIB, StreamOptions

JOIN_BYTES = 64 * KIB


class Outlet:
    """The writing side of one connection. `on_slow` is called once, when the client is given up."""

    __slots__ = (
        "_flusher", "_limit", "_numbers", "_on_slow", "_options", "_protocol", "_queue", "_transport", "_writer",
        "open", "queued",
    )  # fmt: skip

    def __init__(
        self, protocol: RequestHandler, writer: AbstractStreamWriter, options: StreamOptions,
        on_slow: Callable[[], None],
    ) -> None:  # fmt: skip
        self._protocol = protocol
        self._transport = protocol.transport
        self._writer = writer
        self._options = options
        self._on_slow = on_slow
        self._limit = options.queue_bytes
        self._queue: dict[str | int, bytes] = {}  # by key, or by a number where there is none; oldest first
        self._numbers = count()
        self._flusher: asyncio.Task[None] | None = None
        self.queued = 0
        self.open = True

    @property
    def is_gone(self) -> bool:
        """Whether the peer, or the kernel, has ended the connection."""
        return self._transport is None or self._transport.is_closing()

    def send(self, block: bytes, *, key: str | None = None) -> None:
        """Write or queue whole frames. Order is kept; nothing is written after the client was given up.

        A block that still waits under the same `key` is replaced, by this one at the end of the queue.
        """
        if not self.open or self._transport is None or self._transport.is_closing():
            return
        if not self._queue and not self._protocol.writing_paused:
            self._transport.write(block)
            return
        if key is not None:
            self.queued -= len(self._queue.pop(key, b""))
        self._queue[next(self._numbers) if key is None else key] = block
        self.queued += len(block)
        if self.queued > self._limit:
            self._give_up()
        elif self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name="streams.flush")

    def expect(self, backlog_bytes: int) -> None:
        """Allow for a backlog on top of the limit, until the queue has once been empty."""
        self._limit = self._options.queue_bytes + backlog_bytes

    async def drained(self) -> bool:
        """Wait until everything is on its way, `close_grace_s` at the most; False when it is not."""
        if self._flusher is not None:
            await asyncio.wait({self._flusher}, timeout=self._options.close_grace_s)
        return self.open and not self._queue and not self.is_gone

    def abort(self) -> None:
        """Drop the connection and everything queued for it."""
        self.open = False
        self._queue.clear()
        self.queued = 0
        if self._flusher is not None:
            self._flusher.cancel()
        if self._transport is not None:
            self._transport.abort()

    def close_slow(self, farewell: bytes) -> None:
        """Close behind a last frame: it arrives if the client reads again before the caller aborts."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(farewell)
            self._transport.close()

    def _give_up(self) -> None:
        self.open = False
        self._queue.clear()
        self.queued = 0
        self._on_slow()

    async def _flush(self) -> None:
        try:
            while self._queue:
                async with asyncio.timeout(self._options.write_deadline_s):
                    await self._writer.drain()
                if self._transport is None or self._transport.is_closing():
                    return
                self._transport.write(b"".join(self._take()))
            self._limit = self._options.queue_bytes
        except TimeoutError:
            self._give_up()
        except ConnectionError:
            pass  # the client went away; its reader or the next round of checks notices
        finally:
            self._flusher = None

    def _take(self) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        for key, block in list(self._queue.items()):
            if taken and size + len(block) > JOIN_BYTES:
                break
            del self._queue[key]
            taken.append(block)
            size += len(block)
        self.queued -= size
        return taken
