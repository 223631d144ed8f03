"""The clients: requests go to the real database over eight connections and a poster at once, and come back as events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import asyncpg

from contracts import ids
from contracts.errors import AppError
from ledger import balances, checks, journal
from ledger.accounts import Account
from ledger.journal import Posted
from ledger.poster import Poster
from storage.db import Connection, Database
from tests.money.history import Event
from tests.money.model import (
    Answer,
    Change,
    Look,
    Post,
    Refused,
    Request,
    Resolve,
    ResolveGroup,
    Reverse,
    Shown,
    Standing,
    Written,
)

LANES = 8
FLIGHTS = 2
PATIENCE_S = 60.0  # on a busy machine nothing may be given up, for its outcome would be unknown

STANDINGS = """
    SELECT a.code, a.currency, b.status, b.floor, b.ceiling,
           (SELECT count(*)::int FROM ledger.account_changes c WHERE c.account_id = a.id) AS changes,
           b.sequence, b.credits, b.debits, b.pending_credits, b.pending_debits
    FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
    WHERE a.code = $1 AND a.currency = $2 OR $1 IS NULL"""


class RolledBack(Exception):
    """The caller's transaction came to nothing after it had posted."""

    def __init__(self, results: list[tuple[Posted, ...] | AppError]) -> None:
        self.results = results


@dataclass(frozen=True)
class Books:
    """All that is written, read in one transaction."""

    standings: frozenset[tuple[tuple[str, str], Standing]]
    transactions: dict[str, datetime]
    holds: dict[str, tuple[Decimal, Decimal, Decimal]]
    shown: dict[Account, Shown]
    violations: list[str]


class Clients:
    """Everybody who uses one database, as the application's login."""

    def __init__(self, dsn: str) -> None:
        self._db, self._posters_db = (
            Database(dsn, pool_min=n, pool_max=n, statement_timeout_s=PATIENCE_S, acquire_timeout_s=PATIENCE_S)
            for n in (LANES, FLIGHTS)
        )
        self._poster = Poster(self._posters_db, flights=FLIGHTS, batch=4, deadline_s=PATIENCE_S)

    async def start(self) -> None:
        await self._db.connect()
        await self._posters_db.connect()
        self._poster.start()

    async def stop(self) -> None:
        await self._poster.stop()
        await self._posters_db.disconnect()
        await self._db.disconnect()

    async def run(self, lanes: Sequence[Sequence[Request]]) -> list[Event]:
        """Carry out all lanes at once, each lane's requests one after the other; by `poster` they all go at once."""
        by_poster = [request for lane in lanes for request in lane if _goes_by_poster(request)]
        others = [[request for request in lane if not _goes_by_poster(request)] for lane in lanes]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._lane(lane)) for lane in [*others, *([request] for request in by_poster)]]
        return [event for task in tasks for event in task.result()]

    async def read(self, accounts: Sequence[Account]) -> Books:
        """What the books say; `accounts` are also read as their owners do."""
        async with self._db.transaction(isolation="repeatable_read", readonly=True) as conn:
            transactions = await conn.raw.fetch("SELECT id, recorded_at FROM ledger.transactions")
            holds = await conn.raw.fetch("SELECT id, amount, captured, released FROM ledger.holds")
            return Books(
                standings=await _standings(conn),
                transactions={ids.of("txn", row["id"]): row["recorded_at"] for row in transactions},
                holds={ids.of("hld", row["id"]): (row["amount"], row["captured"], row["released"]) for row in holds},
                shown={account: await _shown(conn, account) for account in accounts},
                violations=await checks.violations(conn),
            )

    async def _lane(self, requests: Sequence[Request]) -> list[Event]:
        return [await self._event(request) for request in requests]

    async def _event(self, request: Request) -> Event:
        began = time.monotonic_ns()
        results: Sequence[tuple[Posted, ...] | Answer]
        try:
            if isinstance(request, Post) and request.way == "poster":
                (postings,) = request.sets
                results = [await self._poster.post(*postings)]
            else:
                results = await self._db.retrying(lambda conn: _carried_out(conn, request))
        except RolledBack as rolled_back:
            results = [_refused(result) if isinstance(result, AppError) else result for result in rolled_back.results]
        except (AppError, asyncpg.PostgresError) as refusal:
            results = [_refused(refusal)]
        ended = time.monotonic_ns()
        posted = [p for result in results if isinstance(result, tuple) for p in result if isinstance(p, Posted)]
        return Event(
            request, tuple(map(_answer, results)), began, ended, {p.transaction_id: p.recorded_at for p in posted}
        )


async def _carried_out(conn: Connection, request: Request) -> Sequence[tuple[Posted, ...] | Answer]:
    match request:
        case Post(sets=((posting,),), way="single"):
            return [(await journal.post(conn, posting),)]
        case Post(sets=(postings,), way="linked"):
            return [await journal.post_linked(conn, postings)]
        case Post(sets=sets, way=way):
            results = await journal.post_many(conn, sets)
            if way == "aborted":
                raise RolledBack(results)
            return [_refused(result) if isinstance(result, AppError) else result for result in results]
        case Resolve(resolution=resolution):
            return [(await journal.resolve(conn, resolution),)]
        case ResolveGroup(group=group, key=key, capture=capture):
            return [await journal.resolve_group(
                conn, group, key=key, kind="group", reference="", happened_at=None, capture=capture
            )]  # fmt: skip
        case Reverse(transaction_id=transaction_id, key=key):
            return [(await journal.reverse(conn, transaction_id, key=key, reference=""),)]
        case Change(account=account):
            await journal.Q.change_account(
                conn, code=account.code, currency=account.currency, status=request.status, floor=request.floor,
                ceiling=request.ceiling, actor="clients", reason="a random walk",
            )  # fmt: skip
            # Still under the lock of the row, so that the answer says between which entries the change came.
            ((_, standing),) = await _standings(conn, account)
            return [standing]
        case Look():
            return [await _standings(conn)]


def _goes_by_poster(request: Request) -> bool:
    return isinstance(request, Post) and request.way == "poster"


def _refused(refusal: AppError | asyncpg.PostgresError) -> Refused:
    return Refused(str(refusal.sqlstate) if isinstance(refusal, asyncpg.PostgresError) else type(refusal).__name__)


def _answer(result: tuple[Posted, ...] | Answer) -> Answer:
    if isinstance(result, (Refused, Standing, frozenset)):
        return result
    return tuple(Written(p.transaction_id, p.replayed, frozenset(p.lines)) for p in result)


async def _standings(conn: Connection, account: Account | None = None) -> frozenset[tuple[tuple[str, str], Standing]]:
    code, currency = (account.code, account.currency) if account else (None, None)
    found = {
        (row["code"], row["currency"]): Standing(*list(row.values())[2:])
        for row in await conn.raw.fetch(STANDINGS, code, currency)
    }
    return frozenset((name, standing) for name, standing in found.items() if standing.sequence or standing.changes)


async def _shown(conn: Connection, account: Account) -> Shown:
    balance = await balances.balance(conn, account)
    return Shown(balance.posted.amount, balance.held.amount, balance.pending.amount)
