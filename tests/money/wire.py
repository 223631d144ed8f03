"""A wire to PostgreSQL that is cut on purpose: between any two messages, before or after the server has read one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

# Asked with what a client is sending: whether to cut the wire before that, after it was answered, or not.
Cut = Callable[[bytes], Literal["before", "after"] | None]


class Wire:
    """Between clients and a server on a Unix socket. `cut` decides; `cuts` counts."""

    def __init__(self, dsn: str, folder: Path) -> None:
        (server,) = parse_qs(urlsplit(dsn).query)["host"]
        self._server = Path(server) / ".s.PGSQL.5432"
        self._folder = folder
        self.dsn = dsn.replace(server, str(folder))
        self.cut: Cut = lambda _: None
        self.cuts = 0

    async def carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or it is cut."""
        server, to_server = await asyncio.open_unix_connection(self._server)
        cut = asyncio.Event()

        async def answers() -> None:
            while data := await server.read(1 << 16):
                if cut.is_set():  # the server has done what it was asked, and nobody will hear of it
                    return
                to_client.write(data)
                await to_client.drain()

        async def questions() -> None:
            while data := await client.read(1 << 16):
                when = self.cut(data)
                if when is not None:
                    self.cuts += 1
                    cut.set()
                if when == "before":
                    return
                to_server.write(data)
                await to_server.drain()
                if when == "after":
                    await asyncio.Event().wait()

        pumps = [asyncio.create_task(pump()) for pump in (answers, questions)]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in (to_client, to_server):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def wire(dsn: str, folder: Path) -> AsyncIterator[Wire]:
    """A wire to the database of `dsn`; its own `dsn` leads through it."""
    opened = Wire(dsn, folder)
    server = await asyncio.start_unix_server(opened.carry, folder / ".s.PGSQL.5432")
    try:
        yield opened
    finally:
        server.close()


def once(marker: bytes, when: Literal["before", "after"]) -> Cut:
    """Cut at the first message that holds the marker, and never again."""
    left = 1

    def decide(data: bytes) -> Literal["before", "after"] | None:
        nonlocal left
        if left and marker in data:
            left -= 1
            return when
        return None

    return decide
