"""Raw SQL against the books, as the application's login and as the owner of the tables: none of it may succeed.

A refusal counts only for the right reason: no privilege, a guard of the ledger, or a constraint; never a mistake in the
attack. Attacks are single changes of a hand-written posting that the owner may make, which is tried as well.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from contracts.money import Money
from ledger import accounts, checks, journal
from ledger.accounts import Account
from ledger.journal import Hold, Leg, Posting, Resolution, credit, debit
from storage.db import Database
from storage.embedded import EmbeddedPostgres
from tests.conftest import APPLICATION, TEMPLATE

A, B, FROZEN, CLOSED = (accounts.wallet(f"usr_{name}", "INR") for name in "abfx")
CLEARING = accounts.gateway_clearing("razorpay", "INR")
YEN, YEN_CLEARING = Account("wallet:usr_j", "JPY", "liability", Decimal(0)), Account("yen", "JPY", "asset")
LATER = datetime.now(UTC) + timedelta(days=30)


def rupees(text: str) -> Money:
    return Money.parse(text, "INR")


def moved(key: str, source: Account, target: Account, amount: str, **more: Any) -> Posting:
    legs = (debit(source, rupees(amount)), credit(target, rupees(amount)))
    return Posting(key, "seed", "ref", None, legs, **more)


async def seed(dsn: str) -> None:
    """₹500 and ₹300 in two wallets, ₹200 of the first held for the second, of which ₹50 are captured; one frozen wallet
    with ₹100, one closed, one transaction reversed, and another currency."""
    database = Database(dsn, pool_min=1, pool_max=2)
    await database.connect()
    try:
        async with database.transaction() as conn:
            await conn.raw.execute("INSERT INTO ledger.currencies (code, exponent) VALUES ('JPY', 0)")
            for key, wallet, amount in (("a", A, "500"), ("b", B, "300"), ("f", FROZEN, "100"), ("x", CLOSED, "1")):
                await journal.post(conn, moved(key, CLEARING, wallet, amount))
            await journal.post(conn, moved("back", CLOSED, CLEARING, "1"))
            yen = (Leg(YEN_CLEARING, Decimal(-7)), Leg(YEN, Decimal(7)))
            await journal.post(conn, Posting("yen", "seed", "", None, yen))
            once = await journal.post(conn, moved("once", CLEARING, A, "5"))
            await journal.reverse(conn, once.transaction_id, key="undo", reference="")
            held = await journal.place(conn, Hold("hold", "hold", "", None, A, B, rupees("200"), LATER))
            hold_id = f"hld_{held.transaction_id[4:]}"
            await journal.resolve(conn, Resolution("part", "capture", "", None, hold_id, captured=rupees("50")))
            for account, status in ((FROZEN, "frozen"), (CLOSED, "closed")):
                await journal.Q.change_account(
                    conn, code=account.code, currency="INR", status=status, floor=Decimal(0), ceiling=None,
                    actor="test", reason="test",
                )  # fmt: skip
    finally:
        await database.disconnect()


async def violations(dsn: str) -> list[str]:
    database = Database(dsn, pool_min=1, pool_max=1)
    await database.connect()
    try:
        async with database.connection() as conn:
            return await checks.violations(conn)
    finally:
        await database.disconnect()


@pytest.fixture(scope="module")
def books(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database with the seed; every attack is rolled back."""
    name = f"attacks_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    asyncio.run(seed(postgres.dsn(name)))
    before = contents(postgres.dsn(name))
    yield name
    assert contents(postgres.dsn(name)) == before
    assert asyncio.run(violations(postgres.dsn(name))) == []
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def contents(dsn: str) -> list[Any]:
    tables = ("entries", "transactions", "balances", "holds", "accounts", "account_changes", "currencies", "unsealed")
    with psycopg.connect(dsn) as connection:
        return [connection.execute(f"SELECT * FROM ledger.{table} ORDER BY 1, 2").fetchall() for table in tables]


def written(*legs: tuple[str, str], **changes: str) -> str:
    """A posting by hand. `legs` are a code and an amount, or more of what a leg has; `changes` replaces expressions."""
    of = {
        "key": "'by-hand'", "hash": "sha256('x')", "kind": "'manual'", "reference": "''", "metadata": "'{}'", "at": "t.at",
        "happened": "t.at", "hold_id": "NULL::uuid", "expires_at": "NULL::timestamptz", "reverses": "NULL::uuid",
        "pending_debit": "l.pending_debit", "pending_credit": "l.pending_credit", "amount": "l.amount",
        "account": "b.account_id", "currency": "b.currency", "entry_at": "t.at", "entry_happened": "t.at", "sequence": "b.sequence + 1",
        "transaction_id": "ledger.transaction_id('by-hand')",
        "credits": "b.credits + greatest(l.amount, 0)", "debits": "b.debits - least(l.amount, 0)",
        "pending_credits": "b.pending_credits + l.pending_credit", "pending_debits": "b.pending_debits + l.pending_debit",
        "accounts": "(SELECT array_agg(a.id ORDER BY a.id) FROM ledger.accounts a JOIN l ON l.code = a.code)",
        "clock": "clock_timestamp()",
    }  # fmt: skip
    assert changes.keys() <= of.keys()
    of.update(changes)
    rows = ", ".join(
        "('{}', {}::numeric, {}::numeric, {}::numeric)".format(*leg, *["0"] * (4 - len(leg))) for leg in legs
    )
    return f"""
        WITH t AS MATERIALIZED (SELECT {of["clock"]} AS at),
        l (code, amount, pending_debit, pending_credit) AS (VALUES {rows}),
        header AS (
            INSERT INTO ledger.transactions (key, request_hash, kind, reference, metadata, happened_at, recorded_at,
                                             hold_id, expires_at, reverses, accounts)
            SELECT {of["key"]}, {of["hash"]}, {of["kind"]}, {of["reference"]}, {of["metadata"]}, {of["happened"]},
                   {of["at"]}, {of["hold_id"]}, {of["expires_at"]}, {of["reverses"]}, {of["accounts"]} FROM t)
        INSERT INTO ledger.entries (account_id, recorded_at, happened_at, sequence, transaction_id, currency, amount,
                                    pending_debit, pending_credit, credits, debits, pending_credits, pending_debits)
        SELECT {of["account"]}, {of["entry_at"]}, {of["entry_happened"]}, {of["sequence"]}, {of["transaction_id"]},
               {of["currency"]}, {of["amount"]}, {of["pending_debit"]}, {of["pending_credit"]}, {of["credits"]}, {of["debits"]},
               {of["pending_credits"]}, {of["pending_debits"]}
        FROM t, l JOIN ledger.accounts a ON a.code = l.code JOIN ledger.balances b ON b.account_id = a.id"""


PAIR = (("wallet:usr_a", "-10"), ("wallet:usr_b", "10"))
HELD = "ledger.transaction_id('hold')"
RESOLVE = (("wallet:usr_a", "-10", "-10", "0"), ("wallet:usr_b", "10", "0", "-10"))
PLACE = (("wallet:usr_a", "0", "10", "0"), ("wallet:usr_b", "0", "0", "10"))
OLD = "ledger.transaction_id('a')"
AN_ENTRY = "(SELECT * FROM ledger.entries WHERE sequence = 1 ORDER BY account_id LIMIT 1)"
MONTH = f"ledger.entries_{datetime.now(UTC):%Y_%m}"
CHANGE = (
    "WITH c AS (INSERT INTO ledger.account_changes (account_id, status, floor, actor, reason) "
    "SELECT id, '{status}', {floor}, 'x', 'x' FROM ledger.accounts WHERE code = '{of}' RETURNING *) "
    "UPDATE ledger.balances b SET change_id = c.id, status = c.status, floor = c.floor, ceiling = c.ceiling FROM c, "
    "ledger.accounts a WHERE a.id = b.account_id AND a.code = '{to}'"
)
TEMPORARY = (
    "CREATE TEMPORARY TABLE lever (x int); "
    "CREATE FUNCTION pg_temp.pull() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NULL; END $$; "
    "CREATE TRIGGER pull AFTER INSERT ON lever FOR EACH ROW EXECUTE FUNCTION pg_temp.pull(); "
    "INSERT INTO lever VALUES (1)"
)


def shadowed(table: str) -> str:
    """A posting of more than there is, with a temporary table in front of the ledger's own."""
    return (
        f"CREATE TEMPORARY TABLE {table} (LIKE ledger.{table} INCLUDING ALL); SET search_path = pg_temp, ledger, public; "
        + written(("wallet:usr_a", "-100000"), ("wallet:usr_b", "100000"))
    )


ATTACKS = {
    # history
    "change an entry": "UPDATE ledger.entries SET amount = amount + 1",
    "change an entry of a month": f"UPDATE {MONTH} SET amount = amount + 1",
    "delete an entry": "DELETE FROM ledger.entries",
    "delete an entry of a month": f"DELETE FROM {MONTH}",
    "truncate the entries": "TRUNCATE ledger.entries",
    "truncate a month": f"TRUNCATE {MONTH}",
    "insert into a month": f"INSERT INTO {MONTH} SELECT * FROM {AN_ENTRY} e",
    "insert into the month that should be empty": f"INSERT INTO ledger.entries_default SELECT * FROM {AN_ENTRY} e",
    "copy into a month": f"COPY {MONTH} FROM PROGRAM 'true'",
    "change a transaction": "UPDATE ledger.transactions SET reference = 'other'",
    "change a transaction's hash": "UPDATE ledger.transactions SET request_hash = sha256('y')",
    "delete a transaction": "DELETE FROM ledger.transactions",
    "truncate everything": "TRUNCATE ledger.transactions, ledger.entries CASCADE",
    "merge into transactions": (
        "MERGE INTO ledger.transactions t USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET reference = 'other'"
    ),
    "change an account's code": "UPDATE ledger.accounts SET code = code || '_x'",
    "turn an account round": "UPDATE ledger.accounts SET kind = 'asset'",
    "change an account's opening floor": "UPDATE ledger.accounts SET floor = -1000",
    "delete an account": "DELETE FROM ledger.accounts",
    "change who froze an account": "UPDATE ledger.account_changes SET actor = 'other'",
    "delete a change": "DELETE FROM ledger.account_changes",
    "change a currency": "UPDATE ledger.currencies SET exponent = 4",
    "delete a hold": "DELETE FROM ledger.holds",
    "truncate holds": "TRUNCATE ledger.holds",
    "forget what waits to be sealed": "DELETE FROM ledger.unsealed",
    "switch triggers off for the session": "SET session_replication_role = replica; DELETE FROM ledger.entries",
    "switch triggers off and raise a balance": (
        "SET session_replication_role = replica; UPDATE ledger.balances SET credits = credits + 1"
    ),
    "put the guards off until later": (
        "SET CONSTRAINTS ALL DEFERRED; UPDATE ledger.balances SET credits = credits + 1, sequence = sequence + 1"
    ),
    # balances
    "raise a balance": "UPDATE ledger.balances SET credits = credits + 1",
    "raise a balance and its sequence": "UPDATE ledger.balances SET credits = credits + 1, sequence = sequence + 1",
    "raise both sides": "UPDATE ledger.balances SET credits = credits + 1, debits = debits + 1",
    "lower what is held": "UPDATE ledger.balances SET pending_debits = 0",
    "rewind a balance to its first entry": (
        "UPDATE ledger.balances b SET (sequence, recorded_at, credits, debits, pending_credits, pending_debits) = "
        "(SELECT sequence, recorded_at, credits, debits, pending_credits, pending_debits FROM ledger.entries e "
        "WHERE e.account_id = b.account_id AND sequence = 1)"
    ),
    "rewind a balance to zero": "UPDATE ledger.balances SET credits = 0, debits = 0, sequence = 0",
    "move a balance's instant": "UPDATE ledger.balances SET recorded_at = recorded_at - interval '1 day'",
    "turn a balance round": "UPDATE ledger.balances SET credit_normal = NOT credit_normal",
    "another currency for a balance": "UPDATE ledger.balances SET currency = 'JPY'",
    "more places for a balance": "UPDATE ledger.balances SET exponent = 4",
    "a balance for another account": "UPDATE ledger.balances SET account_id = account_id + 100000",
    "NaN in a balance": "UPDATE ledger.balances SET credits = 'NaN'",
    "Infinity in a balance": "UPDATE ledger.balances SET credits = 'Infinity'",
    "delete a balance": "DELETE FROM ledger.balances",
    "truncate balances": "TRUNCATE ledger.balances",
    "open a balance above zero": (
        "INSERT INTO ledger.balances (account_id, currency, exponent, credit_normal, credits, sequence) "
        "VALUES (999999, 'INR', 2, true, 5, 1)"
    ),
    "a balance without an account": (
        "INSERT INTO ledger.balances (account_id, currency, exponent, credit_normal) VALUES (999999, 'INR', 2, true)"
    ),
    "merge into balances": (
        "MERGE INTO ledger.balances b USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET credits = b.credits + 1"
    ),
    "upsert a balance": (
        "INSERT INTO ledger.balances AS b (account_id, currency, exponent, credit_normal) "
        "SELECT id, 'INR', 2, true FROM ledger.accounts WHERE code = 'wallet:usr_a' "
        "ON CONFLICT (account_id) DO UPDATE SET credits = b.credits + 1"
    ),
    "raise a balance under a cursor": (
        "DECLARE c CURSOR FOR SELECT * FROM ledger.balances FOR UPDATE; FETCH c; "
        "UPDATE ledger.balances SET credits = credits + 1 WHERE CURRENT OF c"
    ),
    "raise a balance from a trigger of one's own": TEMPORARY.format("UPDATE ledger.balances SET credits = credits + 1;"),
    "delete entries from a trigger of one's own": TEMPORARY.format("DELETE FROM ledger.entries;"),
    # limits and states
    "lower a floor": "UPDATE ledger.balances SET floor = -1000",
    "lift a floor": "UPDATE ledger.balances SET floor = NULL",
    "thaw an account": "UPDATE ledger.balances SET status = 'open'",
    "a change of another account": CHANGE.format(status="open", floor="-1000", of="wallet:usr_b", to="wallet:usr_a"),
    "a floor above what is there": CHANGE.format(status="open", floor="100000", of="wallet:usr_a", to="wallet:usr_a"),
    "close an account with money": CHANGE.format(status="closed", floor="0", of="wallet:usr_a", to="wallet:usr_a"),
    "an older change again": "UPDATE ledger.balances SET change_id = 1",
    "a state that is none": (
        "INSERT INTO ledger.account_changes (account_id, status, actor, reason) SELECT id, 'gone', 'x', 'x' "
        "FROM ledger.accounts WHERE code = 'wallet:usr_a'"
    ),
    "overdraw": written(("wallet:usr_a", "-10000"), ("wallet:usr_b", "10000")),
    "spend what is held": written(("wallet:usr_a", "-400"), ("wallet:usr_b", "400")),
    "spend what is only pending": written(("wallet:usr_b", "-400"), ("wallet:usr_a", "400")),
    "debit a frozen account": written(("wallet:usr_f", "-10"), ("wallet:usr_b", "10")),
    "hold money of a frozen account": written(
        ("wallet:usr_f", "0", "10", "0"), ("wallet:usr_b", "0", "0", "10"),
        hold_id="ledger.transaction_id('by-hand')", expires_at="now()",
    ),
    "credit a closed account": written(("wallet:usr_x", "10"), ("wallet:usr_a", "-10")),
    # postings
    "one-sided": written(("wallet:usr_b", "10")),
    "unbalanced": written(("wallet:usr_a", "-10"), ("wallet:usr_b", "11")),
    "balanced over two currencies": written(("wallet:usr_a", "-7"), ("wallet:usr_j", "7")),
    "NaN": written(("wallet:usr_a", "'NaN'"), ("wallet:usr_b", "'NaN'")),
    "Infinity": written(("wallet:usr_a", "'-Infinity'"), ("wallet:usr_b", "'Infinity'")),
    "too large": written(("gateway_clearing:razorpay", "-1e15"), ("wallet:usr_b", "1e15")),
    "too fine": written(("wallet:usr_a", "-0.001"), ("wallet:usr_b", "0.001")),
    "half a yen": written(("yen", "-0.5"), ("wallet:usr_j", "0.5")),
    "zero": written(("wallet:usr_a", "0"), ("wallet:usr_b", "0")),
    "a transaction without entries": (
        "INSERT INTO ledger.transactions (key, request_hash, kind, reference, metadata, happened_at, recorded_at, accounts) "
        "VALUES ('z', sha256('x'), 'x', '', '{}', now(), now(), '{1,2}')"
    ),
    "a transaction without accounts": (
        "INSERT INTO ledger.transactions (key, request_hash, kind, reference, metadata, happened_at, recorded_at, accounts) "
        "VALUES ('z', sha256('x'), 'x', '', '{}', now(), now(), '{}')"
    ),
    "entries of no transaction": written(*PAIR, transaction_id="gen_random_uuid()"),
    "entries of an old transaction": written(*PAIR, transaction_id=OLD),
    "a second set of entries for an old transaction": (
        "INSERT INTO ledger.entries (account_id, recorded_at, happened_at, sequence, transaction_id, currency, amount, credits, "
        "debits, pending_credits, pending_debits) "
        "SELECT b.account_id, t.recorded_at, t.happened_at, b.sequence + 1, t.id, b.currency, e.amount, "
        "b.credits + greatest(e.amount, 0), b.debits - least(e.amount, 0), b.pending_credits, b.pending_debits "
        f"FROM ledger.transactions t, ledger.entries e JOIN ledger.balances b USING (account_id) "
        f"WHERE t.id = {OLD} AND e.transaction_id = t.id"
    ),
    "the header names another account": written(*PAIR, accounts="'{999999,1}'::bigint[]"),
    "the header names one too many": written(
        *PAIR, accounts="(SELECT array_agg(id) FROM ledger.accounts WHERE currency = 'INR')"
    ),
    "the header names an account twice": written(
        *PAIR, accounts="(SELECT array_agg(a.id) FROM ledger.accounts a JOIN l ON l.code = a.code, generate_series(1, 2))"
    ),
    "an account twice": written(*PAIR, ("wallet:usr_a", "-1"), ("wallet:usr_a", "1")),
    "an entry in another currency than its account": written(*PAIR, currency="'JPY'"),
    "an unknown account": written(*PAIR, account="b.account_id + 100000"),
    "a wrong credit side": written(*PAIR, credits="b.credits + greatest(l.amount, 0) + 1"),
    "a wrong debit side": written(*PAIR, debits="b.debits"),
    "a wrong pending side": written(*PAIR, pending_debits="0", pending_credits="0"),
    "a hole in the sequence": written(*PAIR, sequence="b.sequence + 2"),
    "a number twice": written(*PAIR, sequence="b.sequence"),
    "recorded yesterday": written(*PAIR, clock="clock_timestamp() - interval '1 day'"),
    "recorded tomorrow": written(*PAIR, clock="clock_timestamp() + interval '1 day'"),
    "entries at another instant than the header": written(*PAIR, entry_at="t.at + interval '1 microsecond'"),
    "entries that happened at another instant": written(*PAIR, entry_happened="t.at - interval '1 hour'"),
    "happened after it was recorded": written(
        *PAIR, happened="t.at + interval '1 hour'", entry_happened="t.at + interval '1 hour'"
    ),
    "a key twice": written(*PAIR, key="'a'", transaction_id=OLD),
    "an id of one's own": "INSERT INTO ledger.transactions (id, key) VALUES (gen_random_uuid(), 'z')",
    "a key with a backslash": written(*PAIR, key=r"'by\\hand'", transaction_id=r"ledger.transaction_id('by\\hand')"),
    "an empty key": written(*PAIR, key="''", transaction_id="ledger.transaction_id('')"),
    "a hash that is none": written(*PAIR, hash="'x'::bytea"),
    "metadata that is no object": written(*PAIR, metadata="'[]'"),
    "a kind that is none": written(*PAIR, kind="'No Kind'"),
    "a temporary balance in front": shadowed("balances"),
    "a temporary account in front": shadowed("accounts"),
    # holds
    "held on one side": written(
        ("wallet:usr_a", "0", "10", "0"), ("wallet:usr_b", "0"), hold_id="ledger.transaction_id('by-hand')", expires_at="now()"
    ),
    "held for nobody": written(*PLACE),
    "held and moved at once": written(
        ("wallet:usr_a", "-10", "10", "0"), ("wallet:usr_b", "10", "0", "10"),
        hold_id="ledger.transaction_id('by-hand')", expires_at="now()",
    ),
    "held without an end": written(*PLACE, hold_id="ledger.transaction_id('by-hand')"),
    "held less than nothing": written(
        ("wallet:usr_a", "0", "-10", "0"), ("wallet:usr_b", "0", "0", "-10"),
        hold_id="ledger.transaction_id('by-hand')", expires_at="now()",
    ),
    "released without a hold": written(("wallet:usr_a", "0", "-10", "0"), ("wallet:usr_b", "0", "0", "-10")),
    "captured from an unknown hold": written(*RESOLVE, hold_id="gen_random_uuid()"),
    "captured more than is held": written(
        ("wallet:usr_a", "-151", "-151", "0"), ("wallet:usr_b", "151", "0", "-151"), hold_id=HELD
    ),
    "captured more than is resolved": written(
        ("wallet:usr_a", "-11", "-10", "0"), ("wallet:usr_b", "11", "0", "-10"), hold_id=HELD
    ),
    "captured the other way round": written(
        ("wallet:usr_b", "-10", "-10", "0"), ("wallet:usr_a", "10", "0", "-10"), hold_id=HELD
    ),
    "captured for another": written(
        ("wallet:usr_a", "-10", "-10", "0"), ("wallet:usr_f", "10", "0", "-10"), hold_id=HELD
    ),
    "a hold made up": (
        "INSERT INTO ledger.holds (id, source, target, amount, expires_at) VALUES (gen_random_uuid(), 1, 2, 5, now())"
    ),
    "a hold marked as captured": "UPDATE ledger.holds SET captured = amount, released = 0",
    "a hold marked as released": "UPDATE ledger.holds SET released = released + 1",
    "a hold made larger": "UPDATE ledger.holds SET amount = amount + 1",
    "a hold for another": "UPDATE ledger.holds SET target = (SELECT id FROM ledger.accounts WHERE code = 'wallet:usr_f')",
    "a hold made longer": "UPDATE ledger.holds SET expires_at = expires_at + interval '1 day'",
    # reversals
    "reversed twice": written(
        ("wallet:usr_a", "-5"), ("gateway_clearing:razorpay", "5"), reverses="ledger.transaction_id('once')"
    ),
    "reversed by another amount": written(
        ("wallet:usr_a", "-400"), ("gateway_clearing:razorpay", "400"), reverses=OLD
    ),
    "reversed between others": written(
        ("wallet:usr_b", "-5"), ("gateway_clearing:razorpay", "5"), reverses=OLD
    ),
    "a reversal reversed": written(
        ("wallet:usr_a", "5"), ("gateway_clearing:razorpay", "-5"), reverses="ledger.transaction_id('undo')"
    ),
    "what never was reversed": written(*PAIR, reverses="gen_random_uuid()"),
    "a hold reversed": written(("wallet:usr_a", "10"), ("wallet:usr_b", "-10"), reverses="ledger.transaction_id('part')"),
}  # fmt: skip

FOR_THE_APPLICATION_ONLY = {
    "switch a guard off": "ALTER TABLE ledger.entries DISABLE TRIGGER ALL",
    "drop a guard": "DROP TRIGGER entries_followed ON ledger.entries",
    "replace the writer": "CREATE FUNCTION ledger.post_v2() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "take a table": "ALTER TABLE ledger.balances OWNER TO matchday_test",
    "become the owner": "SET ROLE postgres",
    "inherit from the owner": "GRANT postgres TO matchday_test",
    "lock everybody out": "LOCK TABLE ledger.entries IN ACCESS EXCLUSIVE MODE",
    "detach a month": f"ALTER TABLE ledger.entries DETACH PARTITION {MONTH}",
    "archive a month": "SELECT ledger.archive_month_v1('2020-01-01', 0, sha256('x'))",
    "open accounts by hand": "INSERT INTO ledger.accounts (code, currency, kind) VALUES ('x', 'INR', 'asset')",
    "change who owns the writer": "ALTER FUNCTION ledger.change_account_v1 OWNER TO matchday_test",
    "make a schema": "CREATE SCHEMA evil",
    "make a table in public": "CREATE TABLE public.balances (x int)",
}
REASONS = ("LG", "22", "23")
GENERATED = "428C9"  # refused by the parser, whoever asks


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_owner_cannot(postgres: EmbeddedPostgres, books: str, attack: str) -> None:
    # COPY … FROM PROGRAM of nothing inserts nothing; that the guard answers at all is what counts.
    with psycopg.connect(postgres.dsn(books)) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(attack.encode())
    assert str(refused.value.sqlstate).startswith(REASONS) or refused.value.sqlstate == GENERATED, refused.value


@pytest.mark.parametrize(
    "attack", (ATTACKS | FOR_THE_APPLICATION_ONLY).values(), ids=ATTACKS | FOR_THE_APPLICATION_ONLY
)
def test_the_application_cannot(postgres: EmbeddedPostgres, books: str, attack: str) -> None:
    with psycopg.connect(postgres.dsn(books, user=APPLICATION)) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(attack.encode())
    assert refused.value.sqlstate in ("42501", GENERATED), refused.value


@pytest.mark.parametrize(
    "legal",
    [
        written(*PAIR),
        written(*RESOLVE, hold_id=HELD),
        written(*PLACE, hold_id="ledger.transaction_id('by-hand')", expires_at="now()"),
        written(("wallet:usr_b", "-300"), ("gateway_clearing:razorpay", "300"), reverses="ledger.transaction_id('b')"),
        written(("wallet:usr_f", "10"), ("wallet:usr_a", "-10")),
        CHANGE.format(status="frozen", floor="0", of="wallet:usr_a", to="wallet:usr_a"),
    ],
)
def test_the_owner_may_post_by_hand_what_is_right(postgres: EmbeddedPostgres, books: str, legal: str) -> None:
    with psycopg.connect(postgres.dsn(books)) as connection:
        connection.execute(legal.encode())
        connection.rollback()


async def test_eight_at_once_take_a_hold_once(database: Database) -> None:
    async with database.transaction() as conn:
        await journal.post(conn, moved("a", CLEARING, A, "100"))
        held = await journal.place(conn, Hold("hold", "hold", "", None, A, B, rupees("100"), LATER))

    async def take(n: int) -> bool:
        captured = {"captured": rupees("60")} if n % 2 else {"released": rupees("60")}
        resolution = Resolution(f"take{n}", "take", "", None, f"hld_{held.transaction_id[4:]}", **captured)
        try:
            async with database.transaction() as conn:
                await journal.resolve(conn, resolution)
        except journal.refusals.HoldResolved:
            return False
        return True

    assert sum(await asyncio.gather(*(take(n) for n in range(8)))) == 1


async def test_eight_at_once_do_not_overdraw(database: Database) -> None:
    async with database.transaction() as conn:
        await journal.post(conn, moved("a", CLEARING, A, "100"))

    async def spend(n: int) -> bool:
        try:
            async with database.transaction() as conn:
                await journal.post(conn, moved(f"spend{n}", A, B, "30"))
        except journal.refusals.InsufficientFunds:
            return False
        return True

    assert sum(await asyncio.gather(*(spend(n) for n in range(8)))) == 3


async def test_eight_at_once_with_one_key_and_different_requests_write_one(database: Database) -> None:
    async def send(n: int) -> bool:
        try:
            async with database.transaction() as conn:
                await journal.post(conn, moved("same", CLEARING, accounts.wallet(f"usr_{n}", "INR"), "30"))
        except journal.refusals.KeyReused:
            return False
        return True

    assert sum(await asyncio.gather(*(send(n) for n in range(8)))) == 1
