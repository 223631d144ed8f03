"""Real servers, nodes, relays and a writer as processes, with links between them that fail; all of it may be killed."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from aiohttp.test_utils import unused_port

from contracts import ids
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.migrations import migrate
from streams.log import LogEntry
from streams.relay import LOCK_CLASS
from tests.streams.harness import reached
from tests.streams.link import Link, Target
from tests.streams.roles import Told

DATABASE, LOGIN = "kills", "kills"
START_S = 30.0
TEND_S = 0.05
NODES, RELAYS = ("node-0", "node-1"), ("relay-0", "relay-1")
# What a process logs when it did something that it never should: a bug, a log that is another one, a broken contract.
NEVER = (" ERROR ", "AssertionError", "not in the contract")
TRACEBACK_LINES = 40


class Process:
    """A role in a process that is started again whenever it has ended, unless it is to stay down."""

    def __init__(self, role: str, told: Told, log: Path) -> None:
        self.name = told.name
        self.wanted = True
        self.log = log
        self._command = told.command(role)
        self.popen = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def tend(self) -> None:
        if self.wanted and self.popen.poll() is not None:
            self.popen = self._start()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def signal(self, signum: signal.Signals) -> None:
        self.popen.send_signal(signum)


class Rig:
    """Two nodes, two relays and a writer, on PostgreSQL with its default durability and Valkey."""

    def __init__(self, folder: Path, dice: random.Random, *, rate: int) -> None:
        self._folder = folder
        self._dice = dice
        self._rate = rate
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.users = tuple(ids.new("usr") for _ in range(8))
        self.book = folder / "book.jsonl"
        self.links: dict[str, Link] = {}
        self.processes: dict[str, Process] = {}
        self.committed = 0
        self._read = 0

    async def open(self) -> None:
        self.postgres.start()
        self.valkey.start()
        self.postgres.ensure_database(DATABASE)
        migrate(self.postgres.dsn(DATABASE))
        self.postgres.ensure_login(LOGIN, member_of="matchday_app")
        self.book.touch()
        postgres, valkey = self.postgres.socket_dir / ".s.PGSQL.5432", self.valkey.socket_path
        for kind in ("nodes", "relays"):
            await self._link(f"{kind} to PostgreSQL", postgres)
            await self._link(f"{kind} to Valkey", valkey)
        for name in NODES:
            port = unused_port()
            await self._link(f"clients to {name}", port)
            self._process("node", "nodes", Told(name=name, dsn="", redis_url="", port=port))
        for name in RELAYS:
            self._process("relay", "relays", Told(name=name, dsn="", redis_url=""))

    def start_writer(self) -> None:
        told = Told(
            name="writer", dsn=self.postgres.dsn(DATABASE, user=LOGIN), redis_url=self.valkey.url, users=self.users,
            book=str(self.book), seed=self._dice.getrandbits(32), rate=self._rate,
        )  # fmt: skip
        self.processes["writer"] = Process("writer", told, self._folder / "writer.log")

    async def close(self) -> None:
        for process in self.processes.values():
            process.wanted = False
            process.kill()
        for link in self.links.values():
            link.flow()
            await link.close()
        self.valkey.stop()
        self.postgres.stop()

    @property
    def addresses(self) -> list[str]:
        return [f"http://127.0.0.1:{self.links[f'clients to {name}'].port}" for name in NODES]

    @property
    def channels(self) -> list[str]:
        kinds = (("user", "usr_"), ("wallet", "usr_"), ("payment", "dep_"))
        return [f"{kind}:{user.replace('usr_', prefix)}" for user in self.users for kind, prefix in kinds]

    async def tend(self) -> None:
        """Start again what has ended, and count what was committed, until cancelled."""
        while True:
            for process in self.processes.values():
                process.tend()
            with self.book.open("rb") as lines:
                lines.seek(self._read)
                new = lines.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            told = map(json.loads, whole.splitlines())
            self.committed += sum(line["count"] for line in told if line["what"] == "committed")
            await asyncio.sleep(TEND_S)

    async def finish(self) -> None:
        """Let the writer finish what it began, and wait until all of it is in the log."""
        writer = self.processes["writer"]
        writer.wanted = False
        writer.signal(signal.SIGTERM)
        await reached(lambda: writer.popen.poll() is not None, within_s=START_S, what="the writer's end")
        assert writer.popen.returncode == 0, writer.log.read_text("utf-8")[-2000:]

        async def empty() -> bool:
            return (await self.rows("SELECT count(*) FROM outbox"))[0][0] == 0

        await reached(empty, within_s=START_S, what="an empty outbox")

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL past all links; waits for one that is away."""
        deadline = asyncio.get_running_loop().time() + START_S
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self.postgres.dsn(DATABASE)) as connection:
                    return await (await connection.execute(statement.encode(), values)).fetchall()
            except psycopg.OperationalError:
                assert asyncio.get_running_loop().time() < deadline, "PostgreSQL does not come back"
                await asyncio.sleep(0.05)

    async def log(self, after: int = 0, upto: int = 2**62, channels: frozenset[str] | None = None) -> list[LogEntry]:
        """A range of the log, of some channels or of all."""
        rows = await self.rows(
            "SELECT shard, position, event_id, type, subject, channels, data, happened_at, sequence, traceparent"
            " FROM event_log WHERE position > %s AND position <= %s AND (%s::text[] IS NULL OR channels && %s)"
            " ORDER BY position", after, upto, *[None if channels is None else list(channels)] * 2,
        )  # fmt: skip
        return [LogEntry(*row[:5], tuple(row[5]), *row[6:]) for row in rows]

    async def leader(self) -> Process | None:
        """The relay whose session holds the lock."""
        rows = await self.rows(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.classid = %s AND l.granted", LOCK_CLASS,
        )  # fmt: skip
        return self.processes[rows[0][0]] if rows else None

    async def kill_postgres(self) -> None:
        """Kill all of PostgreSQL as a lost machine would, and bring it back."""
        assert self.postgres.process is not None
        self.postgres.process.kill()
        self.postgres.process.wait()
        await reached(lambda: asyncio.to_thread(self._is_back), within_s=START_S, what="a PostgreSQL that is back")

    def kill_session(self) -> None:
        """Kill one process of PostgreSQL; it then ends all the others and recovers by itself."""
        assert self.postgres.process is not None
        family = psutil.Process(self.postgres.process.pid).children()
        self._dice.choice(family).kill()

    async def kill_valkey(self) -> None:
        """Kill Valkey, and bring back an empty one."""
        assert self.valkey.process is not None
        self.valkey.process.kill()
        self.valkey.process.wait()
        shutil.rmtree(self.valkey.data_dir)
        await asyncio.to_thread(self.valkey.start)

    def complaints(self) -> list[str]:
        """What the processes' logs say that should never be there, with what follows it."""
        found = []
        for process in self.processes.values():
            lines = process.log.read_text("utf-8").splitlines()
            for number, line in enumerate(lines):
                if any(word in line for word in NEVER):
                    found.append("\n".join([f"{process.name}: {line}", *lines[number + 1 : number + TRACEBACK_LINES]]))
        return found

    def written(self, what: str) -> list[dict[str, Any]]:
        """The writer's lines of one kind, in order."""
        return [line for line in map(json.loads, self.book.read_text("utf-8").splitlines()) if line["what"] == what]

    def _is_back(self) -> bool:
        try:
            self.postgres.start()
        except RuntimeError:  # sessions of the dead server are still on their way out
            return False
        return True

    async def _link(self, name: str, target: Target) -> None:
        self.links[name] = Link(name, target)
        await self.links[name].open()

    def _process(self, role: str, links: str, told: Told) -> None:
        postgres, valkey = self.links[f"{links} to PostgreSQL"], self.links[f"{links} to Valkey"]
        dsn, url = f"postgresql://{LOGIN}@127.0.0.1:{postgres.port}/{DATABASE}", f"redis://127.0.0.1:{valkey.port}"
        whole = Told(name=told.name, dsn=dsn, redis_url=url, port=told.port)
        self.processes[told.name] = Process(role, whole, self._folder / f"{told.name}.log")


@asynccontextmanager
async def open_rig(folder: Path, dice: random.Random, *, rate: int) -> AsyncIterator[Rig]:
    """A rig with everything running; at a failure the ends of all logs are shown."""
    rig = Rig(folder, dice, rate=rate)
    try:
        await rig.open()
        tending = asyncio.create_task(rig.tend())
        rig.start_writer()
        try:
            yield rig
        finally:
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)
    except BaseException:
        for process in rig.processes.values():
            print(f"--- {process.name}\n{process.log.read_text('utf-8')[-3000:]}")  # pytest shows it with the failure
        raise
    finally:
        await rig.close()
