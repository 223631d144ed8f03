"""The hash chain on a real database: everything is sealed once, and no tampering goes unseen."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.money import Money
from ledger import anchors, chain, journal, recipes
from ledger.verify import Heads, Report, verify
from matchday.home import Home
from storage.db import Database

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TABLES = (
    "entries", "transactions", "accounts", "account_changes", "balances", "holds", "blocks", "unsealed",
)  # fmt: skip


async def post(database: Database, payment: str, amount: str = "500.00") -> journal.Posted:
    posting = recipes.deposit(
        user_id=f"usr_{payment[-1]}", gateway="razorpay", payment_id=payment, deposit_id=f"dep_{payment}",
        amount=Money.parse(amount, "INR"), happened_at=NOW,
    )  # fmt: skip
    async with database.transaction() as conn:
        return await journal.post(conn, posting)


async def verified(database: Database, anchored: Heads | None = None) -> Report:
    async with database.transaction(isolation="repeatable_read", readonly=True) as conn:
        return await verify(conn, anchored=anchored)


async def tamper(database: Database, statement: str) -> None:
    """Do what only a superuser can: switch the guards off, and on again."""
    async with database.transaction() as conn:
        for table in TABLES:
            await conn.raw.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER")
        for month in await conn.raw.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'ledger.entries'::regclass"
        ):
            await conn.raw.execute(f"ALTER TABLE {month['name']} DISABLE TRIGGER USER")
        status = await conn.raw.execute(statement)
        assert not status.endswith(" 0"), "the tampering did nothing"


@pytest.fixture
def database(owner_database: Database) -> Database:
    """With its owner's rights: these tests tamper with tables and switch off what guards them."""
    return owner_database


@pytest.fixture
async def books(database: Database) -> Database:
    """Forty sealed transactions, in two blocks per lane at most, and one that waits."""
    for half in range(2):
        for n in range(20):
            await post(database, f"pay_{half}_{n}")
        await chain.seal(database)
    await post(database, "pay_waiting")
    return database


async def test_clean_books_verify(books: Database) -> None:
    report = await verified(books)
    assert (report.findings, report.transactions, report.waiting) == ([], 40, 1)


TAMPERING = {
    "an entry's amount": "UPDATE ledger.entries SET amount = amount + 1 WHERE sequence = 7",
    "an entry's instant": "UPDATE ledger.entries SET happened_at = happened_at - interval '1 day' WHERE sequence = 7",
    "an entry's order": "UPDATE ledger.entries SET sequence = 100 WHERE sequence = 7",
    "an entry's currency": "UPDATE ledger.entries SET currency = 'USD' WHERE sequence = 7",
    "an entry dropped": "DELETE FROM ledger.entries WHERE sequence = 7",
    "an entry added": "INSERT INTO ledger.entries SELECT account_id, recorded_at + interval '1 us', happened_at, 99,"
    " transaction_id, currency, amount, 0, 0, credits, debits, 0, 0 FROM ledger.entries WHERE sequence = 7",
    "a key": "UPDATE ledger.transactions SET key = key || 'x' WHERE key LIKE '%pay_1_7'",
    "a reference": "UPDATE ledger.transactions SET reference = 'dep_other' WHERE reference = 'dep_pay_1_7'",
    "metadata": "UPDATE ledger.transactions SET metadata = '{\"a\":\"b\"}' WHERE reference = 'dep_pay_1_7'",
    "a request hash": "UPDATE ledger.transactions SET request_hash = sha256('') WHERE reference = 'dep_pay_1_7'",
    "a transaction dropped": "DELETE FROM ledger.transactions WHERE reference = 'dep_pay_1_7'",
    "a transaction added": "INSERT INTO ledger.transactions (recorded_at, happened_at, accounts, request_hash, key, kind,"
    " reference, metadata) SELECT recorded_at, happened_at, accounts, request_hash, 'other', kind, reference, metadata"
    " FROM ledger.transactions LIMIT 1",
    "an account code": "UPDATE ledger.accounts SET code = 'wallet:usr_other' WHERE code = 'wallet:usr_7'",
    "a balance": "UPDATE ledger.balances SET credits = credits + 1 WHERE credits > 0",
    "a block's root": "UPDATE ledger.blocks SET root = sha256('') WHERE number = 1",
    "a block's instant": "UPDATE ledger.blocks SET sealed_at = sealed_at - interval '1 h' WHERE number = 2",
    "a block's leaves": "UPDATE ledger.blocks SET leaves = overlay(leaves PLACING '\\x00' FROM 1) WHERE number = 1",
    "a block's order": "UPDATE ledger.blocks SET transaction_ids = transaction_ids[2:] || transaction_ids[1:1]"
    " WHERE cardinality(transaction_ids) > 1",
    "a block dropped": "DELETE FROM ledger.blocks WHERE number = 1 AND lane = 0",
    "a waiting row dropped": "DELETE FROM ledger.unsealed",
    "a waiting row twice": "INSERT INTO ledger.unsealed SELECT * FROM ledger.unsealed",
}


@pytest.mark.parametrize("statement", TAMPERING.values(), ids=TAMPERING)
async def test_tampering_is_found(books: Database, statement: str) -> None:
    await tamper(books, statement)
    assert (await verified(books)).findings


async def test_a_tail_that_was_cut_off_is_found_by_the_anchors(books: Database, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = tmp_path / "anchors.jsonl"
    assert [await anchors.anchor(books, key=pem, file=file) for _ in range(2)] == [1, 2]
    heads, faults = anchors.read(file, key.public_key())
    assert (faults, (await verified(books, heads)).findings) == ([], [])
    # The newest blocks go, and their transactions wait again: within the database nothing is wrong.
    await tamper(
        books, "INSERT INTO ledger.unsealed SELECT unnest(transaction_ids), lane FROM ledger.blocks WHERE number = 2"
    )
    await tamper(books, "DELETE FROM ledger.blocks WHERE number = 2")
    assert (await verified(books)).findings == []
    assert any("anchored and is gone" in finding for finding in (await verified(books, heads)).findings)


async def test_a_forged_anchor_is_found(books: Database, tmp_path: Path) -> None:
    key, file = Ed25519PrivateKey.generate(), tmp_path / "anchors.jsonl"
    for number in range(3):
        anchors.append(file, [{"lane": 0, "number": number + 1, "total": 1, "hash": "00" * 32}], key)
    lines = file.read_bytes().splitlines(keepends=True)
    for forged in (lines[0] + lines[2], lines[0].replace(b'"total":1', b'"total":2') + b"".join(lines[1:]), b"{}\n"):
        file.write_bytes(forged)
        assert anchors.read(file, key.public_key())[1]
    file.write_bytes(b"".join(lines))
    assert anchors.read(file, Ed25519PrivateKey.generate().public_key())[1]


async def test_sealing_while_others_post_loses_and_doubles_nothing(database: Database) -> None:
    posting = True

    async def poster(worker: int) -> None:
        for n in range(25):
            await post(database, f"pay_{n}_{worker}")

    async def sealer() -> int:
        sealed = 0
        while posting:
            sealed += await chain.seal(database)
        return sealed

    sealers = [asyncio.create_task(sealer()) for _ in range(2)]
    await asyncio.gather(*(poster(worker) for worker in range(8)))
    posting = False
    sealed = sum(await asyncio.gather(*sealers)) + await chain.seal(database)
    report = await verified(database)
    assert (sealed, report.transactions, report.waiting, report.findings) == (200, 200, 0, [])


async def test_a_sealer_that_dies_leaves_everything_waiting(database: Database) -> None:
    for n in range(10):
        await post(database, f"pay_{n}")
    other = await asyncpg.connect(database.dsn)
    await other.execute("BEGIN")
    await other.execute(
        "SELECT ledger.seal_v1(u.lane, array_agg(transaction_id), decode(repeat('00', 32 * count(*)::int),"
        " 'hex'), sha256('')) FROM ledger.unsealed u GROUP BY u.lane"
    )
    assert await other.fetchval("SELECT count(*) FROM ledger.unsealed") == 0
    other.terminate()
    assert await chain.seal(database) == 10
    assert (await verified(database)).findings == []


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("DELETE FROM ledger.unsealed", "LG001"),
        ("UPDATE ledger.unsealed SET lane = 0", "LG001"),
        ("TRUNCATE ledger.unsealed", "LG001"),
        ("UPDATE ledger.blocks SET root = root", "LG001"),
        ("DELETE FROM ledger.blocks", "LG001"),
        ("INSERT INTO ledger.blocks SELECT lane, number + 1, total, sealed_at, hash, root, hash, transaction_ids, leaves"
         " FROM ledger.blocks WHERE number = 2", "LG013"),
        ("SELECT ledger.seal_v1(lane, transaction_ids, leaves, root) FROM ledger.blocks", "LG013"),
    ],
)  # fmt: skip
async def test_the_guards_refuse(books: Database, statement: str, state: str) -> None:
    connection = await asyncpg.connect(books.dsn)
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(statement)
    finally:
        await connection.close()
    assert refused.value.sqlstate == state


async def command(home: Home, database: Database, *arguments: str) -> tuple[int | None, str]:
    environment = {**home.environment(os.environ), "DATABASE_URL": database.dsn, "REDIS_URL": "redis://127.0.0.1:1/0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "matchday", "ledger", *arguments, env=environment, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_commands_say_what_they_found(books: Database, home: Path) -> None:
    home.mkdir()
    stack = Home(home)
    assert await command(stack, books, "anchor") == (0, f"anchor 1 is in {home / 'anchors.jsonl'}\n")
    code, said = await command(stack, books, "verify")
    assert (code, "40 transactions" in said, "as they were sealed" in said) == (0, True, True)
    freeze = ("freeze", "wallet:usr_7", "--actor", "ops", "--reason", "case 7")
    assert await command(stack, books, *freeze) == (0, "wallet:usr_7 is frozen; change 1\n")
    code, said = await command(stack, books, "close", *freeze[1:])
    assert (code, said.startswith("matchday: an account closes at zero")) == (1, True)
    await tamper(books, TAMPERING["a reference"])
    code, said = await command(stack, books, "verify")
    assert (code, "or its entries are not what was sealed" in said) == (1, True)
    await tamper(books, TAMPERING["a balance"])
    code, said = await command(stack, books, "check")
    assert (code, "I3 balance of" in said) == (1, True)


def test_the_tree_is_that_of_certificate_transparency() -> None:
    texts = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    hashes = [hashlib.sha256(b"\x00" + bytes.fromhex(text)).digest() for text in texts]
    assert chain.root(hashes[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert chain.root(hashes).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_fields_cannot_run_into_each_other() -> None:
    assert chain.encoded(["é", None, ""]).hex() == "00000002c3a9" + "ffffffff" + "00000000"
    assert chain.encoded(["ab", "c"]) != chain.encoded(["a", "bc"])
