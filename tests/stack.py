"""The whole product in this process: API, worker, relay, scheduler, vendors' sandbox, on loopback ports of its own.

It runs in a thread with an event loop of its own, so that tests and fuzzers that block can call it over HTTP. Every
response, stream message and event is held to its contract; what breaks one is in `violations`.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
import uvloop
from aiohttp.test_utils import unused_port

from contracts.events import Event
from matchday import config, processes, wiring
from matchday.config import Config
from matchday.home import Home
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from streams.frames import Transport
from streams.schema import ContractBroken, MessageContract
from tests.client import Client, reached
from tests.conftest import APPLICATION, TEMPLATE

REDIS_DB = 7  # a database that no fixture works in
STOP_TIMEOUT_S = 30.0
CONTRACT = MessageContract.load()
AT_REST = """
    SELECT (SELECT count(*) FROM inbox WHERE state = 'received') + (SELECT count(*) FROM outbox)
         + (SELECT count(*) FROM idempotency_keys WHERE status IS NULL)
"""
EVENTS = """
    SELECT type, subject, channels, data, event_id, happened_at FROM outbox
    UNION ALL SELECT type, subject, channels, data, event_id, happened_at FROM event_log
"""
WRITTEN = """
    SELECT (SELECT count(*) FROM deposits), (SELECT count(*) FROM inbox), (SELECT count(*) FROM ledger.transactions),
           (SELECT count(*) FROM ledger.entries), (SELECT count(*) FROM outbox) + (SELECT count(*) FROM event_log),
           (SELECT count(*) FROM idempotency_keys)
"""
TABLES = ("deposits", "inbox", "transactions", "entries", "events", "idempotency_keys")


class Stack:
    """One running product. `violations` are answers, messages and events that no contract has."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        self.api = settings.public_url
        self.sandbox = f"http://{settings.host}:{settings.sandbox_port}"
        self.violations: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: Future[asyncio.Event] = Future()
        self._thread = threading.Thread(target=self._run, name="stack", daemon=True)

    def client(self, *, token: str | None = None) -> Client:
        """A person who talks to this stack."""
        return Client(self.api, self.sandbox, token=token)

    def row(self, statement: str, *args: object) -> tuple[object, ...]:
        """One row of the database: for counting what was written, never for writing."""
        with psycopg.connect(self.config.database_url) as connection:
            found = connection.execute(statement, args).fetchone()
        assert found is not None
        return found

    def start(self) -> None:
        """Return once everything answers."""
        self._thread.start()
        self._ready.result(STOP_TIMEOUT_S)
        with self.client() as client:
            reached(lambda: client.request("GET", "/health/ready").status_code == 200, what="a ready stack")

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._ready.result().set)
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive(), f"the stack does not stop\n{_whereabouts(self._loop)}"

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self._loop = runner.get_loop()
                runner.run(self._serve())
        except BaseException as fault:
            if not self._ready.done():
                self._ready.set_exception(fault)
            else:
                self.violations.append(f"the stack ended: {fault!r}")

    async def _serve(self) -> None:
        stopping = asyncio.Event()
        others = [run for role, run in processes.ROLES.items() if role != "serve"]
        roles = [asyncio.create_task(run(self.config)) for run in others]
        try:
            async with wiring.resources(self.config, role="serve") as opened:
                api = wiring.create_web_api(
                    self.config, opened, violations=self.violations, observe=self._check_message
                )
                async with processes.serving(api, self.config):
                    self._ready.set_result(stopping)
                    stopped = asyncio.create_task(stopping.wait())
                    await asyncio.wait([stopped, *roles], return_when=asyncio.FIRST_COMPLETED)
                    stopped.cancel()
        finally:
            ended = [role for role in roles if role.done()]
            for role in roles:
                role.cancel()
            await asyncio.gather(*roles, return_exceptions=True)
            for role in ended:
                role.result()

    def told(self) -> set[str]:
        """The types of all events so far."""
        return {event.type for event in self._events()}

    def told_on(self) -> set[tuple[str, str]]:
        """The types of all events so far, with the kinds of the channels that each went to."""
        return {(event.type, channel.partition(":")[0]) for event in self._events() for channel in event.channels}

    def check_events(self) -> None:
        """Hold every event to its contract, as it stands in the database: whoever wrote it, and however."""
        for event in self._events():
            try:
                CONTRACT.check_event(event)
            except ContractBroken as broken:
                self.violations.append(f"event {broken}")

    def _events(self) -> Iterator[Event]:
        with psycopg.connect(self.config.database_url) as connection:
            for name, subject, channels, data, event_id, happened_at in connection.execute(EVENTS):
                yield Event(name, subject, tuple(channels), data, event_id, happened_at)

    def _check_message(self, transport: Transport, name: str, payload: bytes) -> None:
        try:
            CONTRACT.check_sent(transport, name, payload)
        except ContractBroken as broken:
            self.violations.append(f"{transport} {broken}")


def _whereabouts(loop: asyncio.AbstractEventLoop) -> str:
    """Where each task of a loop stands."""
    told = io.StringIO()
    for task in asyncio.all_tasks(loop):
        task.print_stack(file=told)
    return told.getvalue()


@contextmanager
def running(postgres: EmbeddedPostgres, valkey: EmbeddedValkey, home: Path, **settings: str) -> Iterator[Stack]:
    """A stack on an empty database for the length of the block; it must have kept every contract at the end."""
    redis_url = f"{valkey.url}?db={REDIS_DB}"
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with _cloned(postgres) as database_url:
        chosen = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "RESPONSE_VALIDATION": "strict",
            "WALLET_CLOSED_LOOP": "false",
            **{key: str(unused_port()) for key in ("MATCHDAY_PORT", "SANDBOX_PORT", "SANDBOX_SMTP_PORT")},
        }
        home.mkdir(parents=True, exist_ok=True)
        stack = Stack(config.read(Home(home).environment({**chosen, **settings})))
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()
        stack.check_events()
    assert not stack.violations, "\n".join(dict.fromkeys(stack.violations))


@contextmanager
def only_written(stack: Stack, **rows: int) -> Iterator[None]:
    """Hold a block to having written these rows and no other."""
    before = _written(stack)
    yield
    after = _written(stack)
    assert {table: after[table] - before[table] for table in TABLES} == {**dict.fromkeys(TABLES, 0), **rows}


def _written(stack: Stack) -> dict[str, Any]:
    with stack.client() as client:
        reached(
            lambda: (
                all(event["state"] == "delivered" for event in client.control("GET", "/_sandbox/events"))
                and stack.row(AT_REST) == (0,)
            ),
            what="a stack at rest",
        )
    return dict(zip(TABLES, stack.row(WRITTEN), strict=True))


@contextmanager
def _cloned(postgres: EmbeddedPostgres) -> Iterator[str]:
    name = f"stack_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield postgres.dsn(name, user=APPLICATION)
    finally:
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
