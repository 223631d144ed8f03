"""The realtime console in a real browser: EventSource and WebSocket come back after the server was killed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from contracts import ids
from contracts.events import Event
from storage.db import Database
from storage.embedded import EmbeddedPostgres
from tests.flows.chromium import Page, chromium, find
from tests.flows.test_processes import Up, person, up
from tests.streams.harness import CONTRACT, emit, reached

STREAMS = ("websocket", "sse")
MISSED = 20
KILLS = 2


class Console:
    """The page, and the log that it is compared with."""

    def __init__(self, page: Page, running: Up, user_id: str) -> None:
        self.page = page
        self._running = running
        self._user_id = user_id
        self._from = 0  # the log's end when the streams were opened for the first time

    async def open(self, token: str, *, resuming: bool = False) -> None:
        await self.page.open(f"{self._running.addresses.api}/realtime/console")
        if not resuming:
            self._from = self._head()
        await self.page.type("#token", token)
        await self.page.press("form .button")
        await self.all_are("open")

    async def all_are(self, state: str) -> None:
        for stream in STREAMS:
            await self.page.holds(f"document.querySelector('#{stream} [data-state=\"{state}\"]') !== null")

    async def shows(self, stream: str) -> list[str]:
        """The ids of the events on the page, oldest first."""
        found = await self.page.read(f"[...document.querySelectorAll('#{stream} [data-id]')].map(r => r.dataset.id)")
        return list(reversed(found))

    async def figure(self, stream: str, name: str) -> int:
        return int(await self.page.read(f"document.querySelector('#{stream} [data-figure={name}]').textContent"))

    async def equals_the_log(self, *, at_least: int) -> None:
        """Wait until both lists are the log since the streams were opened, in order."""

        async def equal() -> bool:
            log = self.log()
            return len(log) >= at_least and [await self.shows(s) for s in STREAMS] == [log, log]

        await reached(equal, within_s=40, what="both lists equal to the log")

    def log(self) -> list[str]:
        rows = self._running.sql(
            f"SELECT event_id FROM event_log WHERE position > {self._from} AND"
            f" channels && ARRAY['user:{self._user_id}', 'wallet:{self._user_id}'] ORDER BY position"
        )
        return [str(event_id) for (event_id,) in rows]

    def begin_here(self) -> None:
        self._from = self._head()

    def _head(self) -> int:
        ((head,),) = self._running.sql("SELECT head FROM event_log_shards")
        return int(str(head))


def kill_serve(running: Up) -> bool:
    """Whether the API was found and killed: a family is counted while its members come and go."""
    try:
        running.role("serve").kill()
    except (psutil.Error, ValueError):
        return False
    return True


@asynccontextmanager
async def database_of(home: Path) -> AsyncIterator[Database]:
    database = Database(EmbeddedPostgres(home / "postgres").dsn("matchday"))
    await database.connect()
    try:
        yield database
    finally:
        await database.disconnect()


def credited(user_id: str) -> Event:
    amount = {"amount": "1.00", "currency": "INR"}
    data: dict[str, Any] = {
        "transaction_id": ids.new("txn"), "amount": amount, "balance": {"available": amount}, "kind": "deposit",
        "reference": ids.new("dep"),
    }  # fmt: skip
    event = Event("wallet.credited", user_id, (f"wallet:{user_id}",), data)
    CONTRACT.check_event(event)
    return event


async def test_both_transports_come_back_after_kill_9_and_miss_nothing(home: Path, tmp_path: Path) -> None:
    program = find()
    if program is None:
        pytest.skip("no Chromium: none of chromium, chromium-browser, google-chrome in PATH, and CHROME is not set")
    with up(home) as running:
        async with database_of(home) as database, person(running) as player, chromium(program, tmp_path) as page:
            _, user_id = await player.verify_email(await player.sign_up())
            await player.sign_in()
            console = Console(page, running, user_id)
            assert player.token is not None
            await console.open(player.token)
            await player.pay(await player.start_deposit(secrets.token_urlsafe(24)))
            await console.equals_the_log(at_least=3)

            for kill in range(1, KILLS + 1):
                await reached(lambda: kill_serve(running), what="a process to be killed")
                for _ in range(MISSED):
                    await emit(database, credited(user_id))
                await console.equals_the_log(at_least=3 + kill * MISSED)
                await console.all_are("open")
            for stream in STREAMS:
                assert await console.figure(stream, "connections") == 1 + KILLS
                assert await console.figure(stream, "recovered") > 0
                assert await console.figure(stream, "repeats") == 0

            await a_reload_goes_on_from_the_cursor_of_the_tab(console, player.token, database, user_id)
            await nothing_is_wider_than_a_phone(page)
            await player.call("DELETE", "/v1/identity/sessions/current", expect=204)
            await console.all_are("ended")
            assert page.faults == []


async def a_reload_goes_on_from_the_cursor_of_the_tab(
    console: Console, token: str, database: Database, user_id: str
) -> None:
    await console.page.open("about:blank")
    console.begin_here()
    for _ in range(MISSED):
        await emit(database, credited(user_id))
    await reached(lambda: len(console.log()) == MISSED, what="all of them in the log")
    await console.open(token, resuming=True)
    await console.equals_the_log(at_least=MISSED)
    for stream in STREAMS:
        assert await console.figure(stream, "recovered") == MISSED


async def nothing_is_wider_than_a_phone(page: Page) -> None:
    for width in (390, 1280):
        await page.resize(width, 900)
        assert await page.read("document.scrollingElement.scrollWidth <= document.scrollingElement.clientWidth")
