"""The pool and its transactions through `databases`; statements on its raw asyncpg connection.

`databases` decides which connection a task has, when a transaction begins, nests (savepoint) and ends. A
statement sent through its own query path costs about twice the driver's (docs/PERFORMANCE.md), so named queries
run on `raw`. docs/adr/0003-statements-on-the-raw-connection.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import asyncpg
import databases.core
import orjson

from contracts.errors import StorageBusy
from storage.faults import SERVER_GONE, Retryable, translate

logger = logging.getLogger(__name__)

TRANSACTION_TRIES = 3
CLOSE_S = 5.0
# Texts, numbers, lists and dicts: an instant or a dataclass in a document is a bug.
PLAIN_JSON = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
# What a connection raises when its server is gone.
LOST = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connection:
    """The task's connection, the same in nested blocks.

    `notes` are words for what the transaction did; whoever asked `Database.on_commit` for one is told after it.
    `known` is what modules remember of this database, under a key of their own: only facts that can never change.
    """

    raw: asyncpg.Connection
    notes: set[str] = field(default_factory=set)
    known: dict[Any, Any] = field(default_factory=dict)


class Database:
    """A bounded pool on one PostgreSQL database.

    `statement_timeout_s` is enforced by the server on every statement; `acquire_timeout_s` is how long a caller
    waits for a free connection before it gets StorageBusy (503). A server that keeps its limit answers in time, so one
    that says nothing for `silence_s` is out of reach (a router forgot the connection): StorageBusy, and a new
    connection for whoever comes next. None, the default, is for those that lift the limit.
    """

    def __init__(
        self, dsn: str, *, pool_min: int = 1, pool_max: int = 10, statement_timeout_s: float = 5.0,
        acquire_timeout_s: float = 2.0, silence_s: float | None = None, application_name: str = "matchday",
    ) -> None:  # fmt: skip
        self.dsn = dsn
        self._acquire_timeout_s = acquire_timeout_s
        self._opened: WeakKeyDictionary[databases.core.Connection, Connection] = WeakKeyDictionary()
        self._known: dict[Any, Any] = {}
        self._on_commit: dict[str, Callable[[], Awaitable[None]]] = {}
        self._database = databases.Database(
            dsn, min_size=pool_min, max_size=pool_max, init=_init_connection,
            command_timeout=silence_s,
            server_settings={
                "application_name": application_name,
                "statement_timeout": str(int(statement_timeout_s * 1000)),
                "timezone": "UTC",
            },
        )  # fmt: skip

    async def connect(self) -> None:
        await self._database.connect()

    async def disconnect(self) -> None:
        """Close the pool. What somebody still has `CLOSE_S` later is dropped: the process is at its end."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._database.disconnect()
        except TimeoutError:
            logger.warning("database.connection_not_returned")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The task's connection without a transaction: for reads that need no common snapshot.

        Raises StorageBusy when none is free in time, and what `storage.faults` knows for a refused statement.
        """
        held = self._database.connection()
        try:
            async with asyncio.timeout(self._acquire_timeout_s):
                await held.__aenter__()
        except TimeoutError:
            raise StorageBusy from None
        except (OSError, asyncpg.InternalClientError, *SERVER_GONE):
            raise StorageBusy from None
        raw = held.raw_connection
        try:
            yield self._opened.setdefault(held, Connection(raw, known=self._known))
        except asyncpg.PostgresError as fault:
            raise translate(fault) from fault
        except (asyncpg.InterfaceError, ConnectionError) as fault:
            if _is_gone(raw):
                raise StorageBusy from fault
            raise
        except TimeoutError as fault:
            _hang_up(raw)
            self._drop_idle()
            raise StorageBusy from fault
        except asyncio.CancelledError:
            _hang_up(raw)
            raise
        except asyncpg.InternalClientError as fault:
            # The server's last words were read and its end was not yet: nothing will ever come on this connection.
            raw.terminate()
            raise StorageBusy from fault
        finally:
            await self._release(held)

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Connection]:
        """A transaction on the task's connection; inside another one, a savepoint.

        Commits at the end of the block, rolls back when it raises. Raises StorageBusy as `connection` does.
        """
        async with self.connection() as conn:
            is_inner = conn.raw.is_in_transaction()
            transaction = self._database.transaction(**options)
            await self._guarded(transaction.start)
            try:
                yield conn
            except BaseException as fault:
                if isinstance(fault, TimeoutError | asyncio.CancelledError):
                    _hang_up(conn.raw)
                # A server that is gone has rolled back by itself, and must not hide why the block ended.
                with suppress(*LOST):
                    await self._guarded(transaction.rollback)
                raise
            await self._guarded(transaction.commit)
        if not is_inner:
            await self._committed(conn)

    async def _committed(self, conn: Connection) -> None:
        for note in conn.notes & self._on_commit.keys():
            await self._on_commit[note]()
        conn.notes.clear()

    def on_commit(self, note: str, tell: Callable[[], Awaitable[None]]) -> None:
        """Call `tell` after the commit of each transaction that left this note.

        A hint that dies with the process: only for what somebody else would find anyway. `tell` must not raise.
        """
        self._on_commit[note] = tell

    async def _guarded(self, step: Callable[[], Awaitable[object]]) -> None:
        # `databases` 0.9 does not give the connection back when BEGIN, COMMIT or ROLLBACK itself fails (a deferred
        # constraint, a lost server): one such transaction would cost the pool a connection for ever.
        held = self._database.connection()
        try:
            await step()
        except BaseException:
            await self._release(held)
            raise

    async def _release(self, held: databases.core.Connection) -> None:
        try:
            await held.__aexit__()
        except LOST:
            # The server went away. `databases` 0.9 would keep the dead connection as the task's own, and every later
            # block of a long-lived task would fail on it.
            self._database._connection = None
        except asyncio.CancelledError:
            # asyncpg goes on giving it back; `databases` would think that the task still has it, and refuse every later
            # block of a task that lives on.
            self._database._connection = None
            raise

    def _drop_idle(self) -> None:
        # What one connection has found, the others would find one by one, each after the same wait.
        pool: asyncpg.Pool | None = getattr(self._database._backend, "_pool", None)
        for holder in pool._holders if pool is not None else ():
            if holder.is_idle():
                holder.terminate()

    async def retrying(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a whole use case in a transaction, again when PostgreSQL asks for it (40001, 40P01), three times
        at most. `work` must have no effect outside the database."""

        async def once() -> T:
            async with self.transaction() as conn:
                return await work(conn)

        return await _again(once)

    async def at_once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a use case that is one statement, as `retrying` does; not inside a transaction. The statement is its own,
        so that locks are held no longer than the server needs, and nobody waits for BEGIN and COMMIT."""

        async def once() -> T:
            async with self.connection() as conn:
                result = await work(conn)
                await self._committed(conn)
                return result

        return await _again(once)


async def _again(once: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(1, TRANSACTION_TRIES + 1):
        try:
            return await once()
        except Retryable:
            if attempt == TRANSACTION_TRIES:
                raise StorageBusy from None
    raise AssertionError("unreachable")


def _hang_up(raw: asyncpg.Connection) -> None:
    """Drop a connection whose statement was given up: asyncpg would wait for the server's word on it, which may never
    come. The server rolls back when it notices."""
    if not _is_gone(raw):
        raw.terminate()


def _is_gone(raw: asyncpg.Connection) -> bool:
    try:
        return bool(raw.is_closed())
    except asyncpg.InterfaceError:  # the pool took a dead one back by itself
        return True


async def _init_connection(raw: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await raw.set_type_codec(name, schema="pg_catalog", encoder=_encode_json, decoder=json.loads)


def _encode_json(value: Any) -> str:
    return orjson.dumps(value, option=PLAIN_JSON).decode()
