"""`matchday up`: every process on one machine, kept alive, and none left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from matchday import config
from matchday.home import Addresses, Home
from matchday.processes import READY_FD, ROLES
from storage.embedded import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey, die_with_parent
from storage.migrations import migrate

DATABASE = "matchday"
LOGIN = "matchday"
APPLICATION_ROLE = "matchday_app"  # migrations/0009_roles.sql
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
WATCH_S = 0.2
BACKOFF_S = 0.2
BACKOFF_MAX_S = 5.0
STEADY_S = 30.0

Say = Callable[[str], None]


class DidNotStart(Exception):
    """A process ended or stayed silent before it was ready."""


class Child:
    """One role in a process of its own."""

    def __init__(self, role: str, environ: Mapping[str, str], log: IO[bytes] | None) -> None:
        self.name = role
        self._environ = environ
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the process and wait until it says that it is ready. Raises DidNotStart."""
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as ready:
            try:
                # In this thread: a child is told of the death of the thread that made it (prctl(2)).
                self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - milliseconds; our own words
                    [sys.executable, "-P", "-m", "matchday", self.name], env={**self._environ, READY_FD: str(writer)},
                    stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=[writer],
                    start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
                )  # fmt: skip
            finally:
                os.close(writer)
            line = await asyncio.to_thread(ready.readline)
            if line != b"ready\n":  # the pipe closes when the process dies
                raise DidNotStart(f"{self.name} ended before it was ready")

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    def stop(self) -> None:
        """Ask the process to end, and make it."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


Supervised = Child | EmbeddedServer


class Stack:
    """Servers from wheels where no URL names real ones, then the schema, then the roles."""

    def __init__(self, home: Home, environ: Mapping[str, str], *, say: Say, log_dir: Path | None) -> None:
        self._home = home
        self._environ = home.environment(environ)
        self._say = say
        self._log_dir = log_dir
        self._running: list[Supervised] = []
        self._watcher: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> Addresses:
        sandbox = f"http://{self._environ.get('MATCHDAY_HOST', '127.0.0.1')}:{self._environ['SANDBOX_PORT']}"
        return Addresses(api=self._environ["PUBLIC_URL"], sandbox=sandbox)

    async def start(self) -> None:
        """Start everything. Raises ConfigError, DidNotStart, RuntimeError; the caller stops what did start."""
        await self._start_servers()
        loaded = config.read(self._environ)
        self._say("applying migrations")
        applied = await asyncio.to_thread(migrate, loaded.database_owner_url)
        self._say(f"migrations: {applied} applied")
        for server in self._running:
            if isinstance(server, EmbeddedPostgres):
                server.ensure_login(LOGIN, member_of=APPLICATION_ROLE)
        # The roles have no business with the owner's rights.
        self._environ.pop("DATABASE_OWNER_URL", None)
        children = [
            Child(role, {**self._environ, **self._metrics_port(number)}, self._log(role))
            for number, role in enumerate(ROLES)
        ]
        self._running += children
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await asyncio.gather(*(child.start() for child in children))
        except TimeoutError:
            raise DidNotStart(f"not everything was ready within {READY_TIMEOUT_S:.0f} s") from None
        self._home.announce(self.addresses)
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop everything, roles before servers."""
        self._home.withdraw()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        children = [server for server in self._running if isinstance(server, Child)]
        await asyncio.gather(*(asyncio.to_thread(child.stop) for child in children))
        for server in reversed(self._running):
            await asyncio.to_thread(server.stop)

    async def _start_servers(self) -> None:
        if "DATABASE_URL" not in self._environ:
            self._say("starting PostgreSQL")
            postgres = EmbeddedPostgres(self._home.path / "postgres")
            self._running.append(postgres)
            postgres.start()
            postgres.ensure_database(DATABASE)
            self._environ["DATABASE_OWNER_URL"] = postgres.dsn(DATABASE)
            self._environ["DATABASE_URL"] = postgres.dsn(DATABASE, user=LOGIN)
        if "REDIS_URL" not in self._environ:
            self._say("starting Valkey")
            valkey = EmbeddedValkey(self._home.path / "valkey")
            self._running.append(valkey)
            valkey.start()
            self._environ["REDIS_URL"] = valkey.url

    def _metrics_port(self, number: int) -> dict[str, str]:
        """METRICS_PORT is the first role's; the others have the ports after it."""
        port = self._environ.get("METRICS_PORT")
        return {"METRICS_PORT": str(int(port) + number)} if port else {}

    def _log(self, role: str) -> IO[bytes] | None:
        if self._log_dir is None:
            return None
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return (self._log_dir / f"{role}.log").open("ab")

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in self._running:
                tasks.create_task(self._keep_alive(server))

    async def _keep_alive(self, server: Supervised) -> None:
        delay_s, started_at = BACKOFF_S, time.monotonic()
        while True:
            await asyncio.sleep(WATCH_S)
            process = server.process
            if process is not None and process.poll() is None:
                continue
            if time.monotonic() - started_at > STEADY_S:
                delay_s = BACKOFF_S
            self._say(f"{server.name} died ({_manner(process)}), restarting")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, BACKOFF_MAX_S)
            started_at = time.monotonic()
            try:
                if isinstance(server, Child):
                    await server.start()
                else:
                    server.start()
                self._say(f"{server.name} is back")
            except (DidNotStart, RuntimeError) as fault:
                self._say(str(fault))


@asynccontextmanager
async def running(home: Home, environ: Mapping[str, str], *, say: Say, log_dir: Path | None) -> AsyncIterator[Stack]:
    """A whole stack for the length of the block. Raises HomeInUse and what `Stack.start` does."""
    with home.held():
        stack = Stack(home, environ, say=say, log_dir=log_dir)
        try:
            await stack.start()
            yield stack
        finally:
            say("stopping")
            await asyncio.shield(stack.stop())
            say("stopped")


async def up(home: Home, environ: Mapping[str, str], *, say: Say) -> None:
    """Run a stack until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None

    def stop() -> None:
        if stopped.is_set():
            return
        stopped.set()
        if not ready:
            starting.cancel()

    ready = False
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    async with running(home, environ, say=say, log_dir=None) as stack:
        ready = True
        for name, address in _listing(stack.addresses):
            say(f"{name:8} {address}")
        say("ready; Ctrl-C stops everything")
        await stopped.wait()


def _listing(addresses: Addresses) -> list[tuple[str, str]]:
    return [
        ("API", f"{addresses.api}/v1"),
        ("docs", f"{addresses.api}/"),
        ("sandbox", f"{addresses.sandbox}/"),
        ("inbox", f"{addresses.sandbox}/inbox"),
    ]


def _manner(process: subprocess.Popen[bytes] | None) -> str:
    if process is None:
        return "it did not start"
    code = process.returncode
    return f"signal {-code}" if code < 0 else f"exit code {code}"
