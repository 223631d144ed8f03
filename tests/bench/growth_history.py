"""A history of transfers for growth_bench, written as fast as PostgreSQL copies: the rows that the ledger would have written.

Only the owner of a scratch database can do this: three tables' guards are off while it lasts. The postings come from
`recipes`, so that keys, references and fingerprints are the real ones: `History.replay` posts some of them again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

import orjson
import psycopg

from contracts import ids
from contracts.money import Money
from ledger import accounts, journal, recipes
from ledger.accounts import Account
from ledger.journal import Leg, Posting
from storage.db import Database

GATEWAY, CURRENCY = "razorpay", "INR"
FUNDS = Money(Decimal(1_000_000), CURRENCY)
CHUNK = 20_000
SAMPLES = 100
GUARDED = ("entries", "transactions", "balances")
COPIED = {
    "transactions": "recorded_at, happened_at, accounts, request_hash, key, kind, reference, metadata",
    "entries": "recorded_at, happened_at, transaction_id, account_id, currency, sequence, amount, credits, debits, "
    "pending_credits, pending_debits",
    "unsealed": "transaction_id, lane",
}
SETTLE = """
    UPDATE ledger.balances SET sequence = %s, recorded_at = %s, credits = %s, debits = %s WHERE account_id = %s
"""
GUARD = """
    SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger
    WHERE NOT tgisinternal AND tgenabled = 'D'
"""


@dataclass
class State:
    """What the entries so far leave on an account, in paise."""

    account_id: int
    sequence: int = 0
    credits: int = 0
    debits: int = 0
    recorded_at: datetime | None = None

    def follow(self, leg: Leg, recorded_at: datetime) -> str:
        """The leg's entry, from the account on."""
        paise = int(leg.amount.scaleb(2))
        self.sequence += 1
        self.credits += max(paise, 0)
        self.debits -= min(paise, 0)
        self.recorded_at = recorded_at
        return f"{self.account_id}\t{CURRENCY}\t{self.sequence}\t{leg.amount}\t{_rupees(self.credits)}\t{_rupees(self.debits)}\t0\t0\n"


@dataclass(frozen=True)
class History:
    """What was written: wallets, whose ids are 1 and so on, and transactions between two instants.

    `samples` are some of the postings, by the instants at which they were recorded.
    """

    wallets: list[Account]
    transactions: int
    begin: datetime
    end: datetime
    samples: dict[datetime, Posting]

    async def replay(self, database: Database) -> None:
        """Post the samples again. Raises AssertionError unless the ledger finds what is here."""
        async with database.transaction() as conn:
            for recorded_at, posting in self.samples.items():
                posted = await journal.post(conn, posting)
                assert posted.replayed, posting
                assert (posted.recorded_at, posted.transaction_id) == (recorded_at, ids.derived("txn", posting.key))
                assert [line.amount for line in posted.lines] == [leg.amount for leg in posting.legs]


def write(dsn: str, *, wallets: int, entries: int, months: int) -> History:
    """Fund wallets and transfer between them, evenly over so many last months, in a migrated and empty database."""
    users = [ids.new("usr") for _ in range(wallets)]
    owned = [accounts.wallet(user, CURRENCY) for user in users]
    end = datetime.now(UTC)
    begin = _month(end, months - 1)
    history = History(owned, entries // 2, begin, end, {})
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT ledger.ensure_months_v1(%s, %s)", (begin.date(), months))
        states = _open(connection, [*owned, accounts.gateway_clearing(GATEWAY, CURRENCY)], begin)
        for table in GUARDED:
            connection.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER")
        _copy_all(connection, _written(history, users, months), states)
        with connection.cursor() as cursor:
            cursor.executemany(
                SETTLE,
                [
                    (s.sequence, s.recorded_at, _rupees(s.credits), _rupees(s.debits), s.account_id)
                    for s in states.values()
                ],
            )
        for (statement,) in connection.execute(GUARD).fetchall():
            connection.execute(statement)
        connection.execute("VACUUM ANALYZE")
    return history


def _open(connection: psycopg.Connection, wanted: list[Account], at: datetime) -> dict[Account, State]:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.accounts (code, currency, kind, floor, created_at) VALUES (%s, %s, %s, %s, %s)",
            [(account.code, account.currency, account.kind, account.floor, at) for account in wanted],
        )
    return {account: State(number) for number, account in enumerate(wanted, 1)}


def _written(history: History, users: list[str], months: int) -> Iterator[tuple[datetime, Posting]]:
    """Every posting with the instant at which it was recorded: deposits first, then transfers."""
    every = max(1, history.transactions // SAMPLES)
    for n, recorded_at in enumerate(_instants(history.transactions, months, history.end)):
        if n < len(users):
            posting = recipes.deposit(
                user_id=users[n], gateway=GATEWAY, payment_id=f"pay_{n:014}", deposit_id=ids.new("dep"), amount=FUNDS,
                happened_at=recorded_at,
            )  # fmt: skip
        else:
            sender, receiver = random.sample(users, 2)
            amount = Money(Decimal(random.randint(100, 10_000)).scaleb(-2), CURRENCY)
            posting = recipes.transfer(
                sender=sender, receiver=receiver, request_key=f"history-{n}", amount=amount, note=None
            )
        if n % every == 0:
            history.samples[recorded_at] = posting
        yield recorded_at, posting


def _instants(count: int, months: int, end: datetime) -> Iterator[datetime]:
    """As many instants in each month, the one that is not over included."""
    for number in range(months):
        first = _month(end, months - 1 - number)
        length = min(_month(end, months - 2 - number), end) - first
        share = count * (number + 1) // months - count * number // months
        yield from (first + length * n / share for n in range(share))


def _month(at: datetime, ago: int) -> datetime:
    """When the month so many before began."""
    years, month = divmod(at.year * 12 + at.month - 1 - ago, 12)
    return datetime(years, month + 1, 1, tzinfo=UTC)


def _copy_all(
    connection: psycopg.Connection, written: Iterator[tuple[datetime, Posting]], states: dict[Account, State]
) -> None:
    """Copy chunk after chunk, each while the next one is made."""
    with ThreadPoolExecutor(1) as copier:
        under_way: Future[None] | None = None
        while chunk := list(islice(written, CHUNK)):
            rows = _rows(chunk, states)
            if under_way is not None:
                under_way.result()
            under_way = copier.submit(_copy, connection, rows)
        if under_way is not None:
            under_way.result()


def _copy(connection: psycopg.Connection, rows: dict[str, list[str]]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        for table, columns in COPIED.items():
            with cursor.copy(f"COPY ledger.{table} ({columns}) FROM STDIN") as copy:
                copy.write("".join(rows[table]))


def _rows(written: Iterable[tuple[datetime, Posting]], states: dict[Account, State]) -> dict[str, list[str]]:
    """The rows of some postings as COPY reads them."""
    rows: dict[str, list[str]] = {table: [] for table in COPIED}
    for recorded_at, posting in written:
        at = f"{recorded_at}\t{recorded_at}"
        digest = hashlib.sha256(posting.key.encode()).hexdigest()
        transaction_id = f"{digest[:12]}8{digest[13:16]}8{digest[17:32]}"  # as ledger.transaction_id
        moved = [states[leg.account] for leg in posting.legs]
        involved = ",".join(map(str, sorted(state.account_id for state in moved)))
        rows["transactions"].append(
            f"{at}\t{{{involved}}}\t\\\\x{posting.fingerprint.hex()}\t{posting.key}\t{posting.kind}\t{posting.reference}"
            f"\t{orjson.dumps(posting.metadata).decode()}\n"
        )
        for state, leg in zip(moved, posting.legs, strict=True):
            rows["entries"].append(f"{at}\t{transaction_id}\t{state.follow(leg, recorded_at)}")
        rows["unsealed"].append(f"{transaction_id}\t{int(transaction_id[-2:], 16) & 3}\n")
    return rows


def _rupees(paise: int) -> str:
    return f"{paise // 100}.{paise % 100:02}" if paise else "0"
