"""The stack as processes: the demo as a new user runs it, and what happens when processes die."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import psutil
import psycopg

from matchday.demo import Person, until
from matchday.home import Addresses
from storage.embedded import EmbeddedPostgres

START_S = 60
END_S = 40


class Up:
    """A running `matchday up`, and what it has said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []
        # Port 0 of the environment would be a fault of configuration: let it choose by itself, as for a user.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "matchday", "up"],
            env={**os.environ, "MATCHDAY_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            self.said.extend(line.rstrip() for line in iter(out.readline, ""))

    def hear(self, text: str, *, within_s: float = START_S) -> None:
        """Wait until it says something."""
        eventually(lambda: any(text in line for line in self.said), within_s, lambda: "\n".join(self.said))

    @property
    def addresses(self) -> Addresses:
        return Addresses(**json.loads((self.home / "up.json").read_text()))

    def role(self, name: str) -> psutil.Process:
        (found,) = [child for child in self.family() if child.cmdline()[-1:] == [name]]
        return found

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, signum: signal.Signals) -> int:
        self.process.send_signal(signum)
        code = self.process.wait(END_S)
        self._reader.join(END_S)
        return code

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        dsn = EmbeddedPostgres(self.home / "postgres").dsn("matchday")
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def up(home: Path) -> Iterator[Up]:
    running = Up(home)
    try:
        running.hear("ready; Ctrl-C")
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


@asynccontextmanager
async def person(running: Up) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession() as session:
        yield Person(session, running.addresses)


def eventually(look: Callable[[], bool], within_s: float, otherwise: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def test_the_demo_passes_on_a_machine_with_nothing(home: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "matchday", "demo"],
        env={**os.environ, "MATCHDAY_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"^✓ +\d+", result.stdout, re.MULTILINE)) == 9
    assert "Everything is as it should be" in result.stdout


async def test_a_worker_killed_between_webhook_and_posting_credits_once_after_its_restart(home: Path) -> None:
    with up(home) as running:
        async with person(running) as player:
            await player.verify_email(await player.sign_up())
            await player.sign_in()
            deposit = await player.start_deposit(secrets.token_urlsafe(24))
            await player.sandbox("POST", "/_sandbox/knobs", {"timeout_next": 50})  # the worker's question hangs
            await player.pay(deposit)
            waiting = "SELECT count(*) FROM inbox WHERE state = 'received' AND leased_until IS NOT NULL"
            await until("the leases", lambda: asyncio.to_thread(lambda: running.sql(waiting)[0][0]))
            running.role("worker").send_signal(signal.SIGKILL)
            running.hear("worker died (signal 9), restarting")
            assert running.sql("SELECT count(*) FROM ledger.transactions") == [(0,)]

            await player.sandbox("POST", "/_sandbox/knobs", {"timeout_next": 0})
            running.hear("worker is back")
            running.sql("UPDATE inbox SET leased_until = now() WHERE state = 'received'")  # as if the lease had run out

            async def credited() -> bool:
                return (await player.money())["balance"]["entries"] == 1

            await until("the credit", credited)
            open_ = "SELECT count(*) FROM inbox WHERE state = 'received'"
            await until("the inbox", lambda: asyncio.to_thread(lambda: running.sql(open_) == [(0,)]))
            assert (await player.money())["balance"]["available"]["amount"] == "500.00"
            assert running.sql("SELECT count(*) FROM ledger.transactions") == [(1,)]


async def test_what_dies_comes_back_and_ctrl_c_leaves_nothing_but_the_data(home: Path) -> None:
    with up(home) as running:
        async with person(running) as player:
            await player.verify_email(await player.sign_up())
            await player.sign_in()
            for name in ("relay", "scheduler", "serve"):
                running.role(name).send_signal(signal.SIGKILL)
                running.hear(f"{name} died (signal 9), restarting")
                running.hear(f"{name} is back")
            family = running.family()
            assert len(family) > 7, "six roles and two servers"
            assert running.end(signal.SIGINT) == 0
            eventually(lambda: not any(alive(process) for process in family), 5, lambda: str(family))

    with up(home) as running:
        player.addresses = running.addresses
        async with aiohttp.ClientSession() as session:
            player._session = session
            await player.sign_in()
            assert (await player.money())["balance"]["available"]["amount"] == "0.00"


def test_a_supervisor_that_is_killed_takes_everybody_along(home: Path) -> None:
    with up(home) as running:
        family = running.family()
        running.process.kill()
        running.process.wait(END_S)
        eventually(lambda: not any(alive(process) for process in family), END_S, lambda: str(family))


def test_a_second_stack_in_the_same_folder_is_refused(home: Path) -> None:
    with up(home):
        second = subprocess.run(
            [sys.executable, "-m", "matchday", "up"],
            env={**os.environ, "MATCHDAY_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode == 1
    assert "in use by another stack" in second.stderr


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
