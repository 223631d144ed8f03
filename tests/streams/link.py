"""A network that can fail: a TCP port that forwards to a server, stalls, cuts connections or forgets them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CHUNK = 64 * 1024
Target = Path | int  # a Unix socket, or a port of this machine


class Pair:
    """One connection through a link. `lost` is a connection whose other end nobody hears of any more."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.lost = False
        self._writers = (client, server)

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            writer.transport.abort()


class Link:
    """Listens on a port of its own for as long as it is open."""

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.port = 0
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        """Accept connections and forward nothing, on old ones and new."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def cut(self, dice: random.Random, share: float = 1.0) -> int:
        """Reset a share of the connections; how many."""
        return self._each(dice, share, Pair.cut)

    def lose(self, dice: random.Random, share: float = 1.0) -> int:
        """Never forward anything again on a share of the connections, and tell neither end. New ones work."""

        def lose(pair: Pair) -> None:
            pair.lost = True

        return self._each(dice, share, lose)

    def _each(self, dice: random.Random, share: float, do: Callable[[Pair], None]) -> int:
        chosen = [pair for pair in sorted(self._pairs, key=id) if dice.random() < share]
        for pair in chosen:
            do(pair)
        return len(chosen)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._flowing.wait()
            if isinstance(self._target, Path):
                there, back = await asyncio.open_unix_connection(self._target)
            else:
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(writer, back)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, back, pair))
                pumps.create_task(self._pump(there, writer, pair))
        finally:
            self._pairs.discard(pair)
            pair.cut()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair) -> None:
        """Forward one direction until its end. An end is not told on a connection that is lost."""
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if pair.lost:
                    continue
                writer.write(data)
                await writer.drain()
        await self._flowing.wait()
        if not pair.lost and writer.can_write_eof():
            with suppress(OSError):
                writer.write_eof()
