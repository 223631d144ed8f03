"""Books with a past: random postings, moved to random instants of the months behind us.

Time cannot be made by posting, for entries are recorded now. So real postings are written, and then all rows of each are
moved together, by the owner of the tables with the guards switched off. What results is what months of posting would
have left: the audit finds nothing wrong with it, and it can be sealed and archived.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from contracts.money import Money
from ledger import accounts, chain, checks, journal
from ledger.accounts import Account
from ledger.journal import Hold, Posting, Resolution, credit, debit
from storage.db import Connection, Database
from tests.money.test_chain import TABLES

CLEARING = accounts.gateway_clearing("razorpay", "INR")
WALLETS = [accounts.wallet(f"usr_{n}", "INR") for n in range(4)]
ACCOUNTS = [CLEARING, *WALLETS]
LATENESS = (
    timedelta(0), timedelta(seconds=3), timedelta(minutes=59, seconds=59, microseconds=999_999), timedelta(hours=1),
    timedelta(hours=7), timedelta(days=2), timedelta(days=40),
)  # fmt: skip
ZERO = Decimal(0)


@dataclass(frozen=True)
class Row:
    """An entry as it stands in the table, with its transaction."""

    account: str
    sequence: int
    transaction_id: UUID
    recorded_at: datetime
    happened_at: datetime
    amount: Decimal
    pending_debit: Decimal
    pending_credit: Decimal
    kind: str
    reference: str


@dataclass(frozen=True)
class Sums:
    """What entries add up to, counted one by one."""

    sequence: int
    credits: Decimal
    debits: Decimal
    pending_credits: Decimal
    pending_debits: Decimal


class Past:
    """Every entry there is, read once; and answers by going through all of them."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.first = min(row.recorded_at for row in rows)
        self.last = max(row.recorded_at for row in rows)

    def of(self, account: Account) -> list[Row]:
        return [row for row in self.rows if row.account == account.code]

    def sums(self, account: Account, *, recorded: datetime, happened: datetime) -> Sums:
        counted = [row for row in self.of(account) if row.recorded_at <= recorded and row.happened_at <= happened]
        return Sums(
            len(counted),
            sum((row.amount for row in counted if row.amount > 0), ZERO),
            sum((-row.amount for row in counted if row.amount < 0), ZERO),
            sum((row.pending_credit for row in counted), ZERO),
            sum((row.pending_debit for row in counted), ZERO),
        )

    def instant(self, dice: random.Random) -> datetime:
        """An instant worth asking about: one that stands on an entry, or close to one, or any."""
        row = dice.choice(self.rows)
        near = dice.choice([row.recorded_at, row.happened_at, row.recorded_at - LATENESS[2]])
        anywhere = self.first + (self.last - self.first) * dice.randrange(1001) / 1000
        return dice.choice([near, near - timedelta(microseconds=1), near + timedelta(microseconds=1), anywhere])


async def make_past(owner: Database, dice: random.Random, *, postings: int, since: datetime) -> Past:
    """Post at random and spread what was posted over the time from `since` until an hour ago."""
    for posting in _postings(dice, postings):
        async with owner.transaction() as conn:
            await journal.post_many(conn, [(posting,)])
    for n in range(postings // 10):
        await _hold(owner, dice, n)
    await _move(owner, dice, since=since)
    async with owner.connection() as conn:
        assert await checks.violations(conn) == []
        return Past(await _rows(conn))


def _postings(dice: random.Random, count: int) -> list[Posting]:
    found = []
    for n in range(count):
        amount = Money.from_minor(dice.randrange(1, 10_000), "INR")
        giver, taker = dice.sample(WALLETS, 2)
        source, kind = (CLEARING, "deposit") if dice.random() < 0.7 else (giver, "transfer")
        legs = (debit(source, amount), credit(taker, amount))
        found.append(Posting(f"p{n}", kind, f"ref_{dice.randrange(6)}", None, legs, {"batch": str(n % 7)}))
    return found


async def _hold(owner: Database, dice: random.Random, n: int) -> None:
    async with owner.transaction() as conn:
        source = dice.choice(WALLETS)
        row = await conn.raw.fetchrow(
            "SELECT credits - debits - pending_debits AS left FROM ledger.balances b JOIN ledger.accounts a "
            "ON a.id = b.account_id WHERE a.code = $1", source.code,
        )  # fmt: skip
        if row is None or row["left"] < 1:
            return
        amount, expires_at = Money.parse("1.00", "INR"), datetime.now(UTC) + timedelta(days=dice.randrange(1, 9))
        placed = await journal.place(
            conn, Hold(f"h{n}", "hold", f"ref_{n % 6}", None, source, CLEARING, amount, expires_at)
        )
        hold_id = "hld" + placed.transaction_id[3:]
        if dice.random() < 0.6:
            part = Money.from_minor(dice.randrange(1, 101), "INR")
            side = dice.choice(["captured", "released"])
            await journal.resolve(
                conn, Resolution(f"r{n}", "resolution", f"ref_{n % 6}", None, hold_id, **{side: part})
            )


async def _move(owner: Database, dice: random.Random, *, since: datetime) -> None:
    until = datetime.now(UTC) - timedelta(hours=1)
    async with owner.transaction() as conn:
        await chain.Q.ensure_months(conn, first=since.date(), months=1 + (until - since).days // 28)
        ids = [row["id"] for row in await conn.raw.fetch("SELECT id FROM ledger.transactions ORDER BY recorded_at, id")]
        span = (until - since) // timedelta(microseconds=1)
        centres = [dice.randrange(span) for _ in range(max(1, len(ids) // 5))]
        # in bursts, so that many stand within the hour of another
        offsets = {min(span, dice.choice(centres) + dice.randrange(3_600_000_000)) for _ in range(3 * len(ids))}
        instants = [since + timedelta(microseconds=offset) for offset in sorted(dice.sample(sorted(offsets), len(ids)))]
        happened = [at - dice.choice(LATENESS) if dice.random() < 0.5 else at for at in instants]
        await _with_guards_off(conn, [
            f"UPDATE ledger.{table} AS r SET recorded_at = m.recorded, happened_at = m.happened "
            f"FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS m(id, recorded, happened) "
            f"WHERE r.{column} = m.id"
            for table, column in (("entries", "transaction_id"), ("transactions", "id"))
        ], ids, instants, happened)  # fmt: skip


async def _with_guards_off(conn: Connection, statements: list[str], *args: object) -> None:
    months = await conn.raw.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'ledger.entries'::regclass"
    )
    tables = [f"ledger.{table}" for table in TABLES] + [row["name"] for row in months]
    for table in tables:
        await conn.raw.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    for statement in statements:
        await conn.raw.execute(statement, *args)
    await conn.raw.execute(
        "UPDATE ledger.balances b SET recorded_at = e.last FROM (SELECT account_id, max(recorded_at) AS last "
        "FROM ledger.entries GROUP BY account_id) e WHERE e.account_id = b.account_id"
    )
    for table in tables:
        await conn.raw.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


async def _rows(conn: Connection) -> list[Row]:
    rows = await conn.raw.fetch(
        "SELECT a.code AS account, e.sequence, e.transaction_id, e.recorded_at, e.happened_at, e.amount, e.pending_debit, "
        "e.pending_credit, t.kind, t.reference FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id "
        "JOIN ledger.transactions t ON t.id = e.transaction_id ORDER BY e.account_id, e.recorded_at"
    )
    return [Row(**row) for row in rows]


async def grow(owner: Database, account: Account, *, entries: int, since: datetime, step: timedelta) -> None:
    """Give an account a long and even history, an entry of 1.00 at each step, every tenth two hours late."""
    async with owner.transaction() as conn:
        await chain.Q.ensure_months(conn, first=since.date(), months=2 + (entries * step).days // 28)
        await conn.raw.execute(GROW_ACCOUNT, account.code, account.currency, account.kind)
        await _with_guards_off(conn, [GROW_ENTRIES], account.code, entries, since, step)
        await _with_guards_off(conn, [GROW_BALANCE], account.code)
    async with owner.connection() as conn:
        await conn.raw.execute("VACUUM (ANALYZE) ledger.entries, ledger.transactions, ledger.accounts, ledger.balances")


GROW_ACCOUNT = "INSERT INTO ledger.accounts (code, currency, kind) VALUES ($1, $2, $3)"
GROW_ENTRIES = """
    WITH grown AS (
        SELECT n, $3::timestamptz + n * $4::interval AS recorded_at, 'grown:' || $1 || n AS key,
               CASE WHEN n % 10 = 0 THEN interval '2 hours' ELSE interval '0' END AS late
        FROM generate_series(1, $2::int) n
    ), account AS (SELECT id, currency FROM ledger.accounts WHERE code = $1), header AS (
        INSERT INTO ledger.transactions (recorded_at, happened_at, accounts, request_hash, key, kind, reference, metadata)
        SELECT recorded_at, recorded_at - late, ARRAY[account.id], '', key,
               CASE WHEN n % 5000 = 0 THEN 'rare' ELSE 'usual' END, 'ref_' || n % 10000, jsonb_build_object('n', n::text)
        FROM grown, account
    )
    INSERT INTO ledger.entries (account_id, recorded_at, happened_at, sequence, transaction_id, currency, amount, credits,
                                debits, pending_credits, pending_debits)
    SELECT account.id, recorded_at, recorded_at - late, n, ledger.transaction_id(key), currency, 1, n, 0, 0, 0
    FROM grown, account
"""
GROW_BALANCE = """
    UPDATE ledger.balances b SET sequence = e.sequence, credits = e.sequence
    FROM (SELECT e.account_id, max(e.sequence) AS sequence FROM ledger.entries e
          JOIN ledger.accounts a ON a.id = e.account_id WHERE a.code = $1 GROUP BY e.account_id) e
    WHERE e.account_id = b.account_id
"""
