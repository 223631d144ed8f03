"""A wire to PostgreSQL that is cut on purpose: between any two messages, before or after the server has read one.

Or nobody cuts it and the server says its last words, as all sessions do when one of them crashes. The end of the connection
is then a moment away, and clients are in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

# Asked with what a client is sending: whether to cut the wire before that, after the server has answered, or not; or to let
# the answer through, and the server's last words with it.
When = Literal["before", "after", "last words"]
Cut = Callable[[bytes], When | None]
_REASON = b"SFATAL\0VFATAL\0C57P02\0Mterminating connection because of crash of another server process\0\0"
LAST_WORDS = b"E" + (4 + len(_REASON)).to_bytes(4, "big") + _REASON


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
        cut, dying = asyncio.Event(), asyncio.Event()

        async def answers() -> None:
            while data := await server.read(1 << 16):
                if cut.is_set():  # the server has done what it was asked, and nobody will hear of it
                    return
                to_client.write(data + LAST_WORDS if dying.is_set() else data)
                await to_client.drain()

        async def questions() -> None:
            while data := await client.read(1 << 16):
                if dying.is_set():
                    continue
                when = self.cut(data)
                self.cuts += when is not None
                match when:
                    case "before":
                        return
                    case "after":
                        cut.set()
                    case "last words":
                        dying.set()
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


def once(marker: bytes, when: When) -> Cut:
    """Cut at the first message that holds the marker, and never again."""
    left = 1

    def decide(data: bytes) -> When | None:
        nonlocal left
        if left and marker in data:
            left -= 1
            return when
        return None

    return decide
