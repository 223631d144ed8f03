"""The hash chain: what was posted, sealed in blocks, in four lanes, after the fact and outside the posting path.

A posting leaves its id in `ledger.unsealed` in its own statement; a sealer takes what is committed there. The lane of a
transaction is the last two bits of its id. All numbers below are big-endian; an auditor needs nothing but this text.

    field        4 bytes: length of the text in UTF-8; the text. NULL: ff ff ff ff and nothing.
    transaction  id, key, kind, reference, happened_at, recorded_at, hold_id, reverses, expires_at, hold_group, accounts
                 (ids ascending, between commas), request_hash (hex), metadata (as PostgreSQL prints the jsonb)
    entry        account_id; code, currency, kind, floor, ceiling of the account; sequence, transaction_id, happened_at,
                 recorded_at, currency, amount, pending_debit, pending_credit, credits, debits, pending_credits,
                 pending_debits
    leaf         SHA-256(00 ‖ fields of the transaction ‖ 4 bytes: number of entries ‖ fields of each, by account_id)
    node         SHA-256(01 ‖ left ‖ right), a tree as in RFC 6962 section 2.1
    block        SHA-256("matchday.ledger.block.v1" ‖ lane, 2 bytes ‖ number, 8 ‖ previous hash, 32 ‖ sealed_at, 8 ‖
                 total, 8 ‖ count, 4 ‖ root, 32)

Instants are microseconds since 1970-01-01T00:00Z, in decimal; amounts are in plain decimal notation without trailing
zeros; ids are UUIDs in their usual text. `total` counts the lane's transactions up to and with the block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from storage import sql
from storage.db import Connection, Database

Q = sql.load(__package__, "upkeep.sql")
LANES = range(4)
BLOCK_SIZE = 1000
DOMAIN = b"matchday.ledger.block.v1"
GENESIS = bytes(32)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def seal(db: Database) -> int:
    """Seal what waits in every lane; return how many transactions. One database transaction for each block.

    Any number may run at once: each waits for the other's lane. A sealer that dies leaves all as it was.
    """
    sealed = 0
    for lane in LANES:
        while count := await _seal_block(db, lane):
            sealed += count
            if count < BLOCK_SIZE:
                break
    return sealed


async def _seal_block(db: Database, lane: int) -> int:
    async with db.transaction() as conn:
        await Q.lock_lane(conn, lane=lane)
        ids = [row["id"] for row in await Q.waiting(conn, lane=lane, limit=BLOCK_SIZE)]
        if ids:
            found, _ = await leaves(conn, ids)
            hashes = [found[sealed] for sealed in ids]
            await Q.seal(conn, lane=lane, ids=ids, leaves=b"".join(hashes), root=root(hashes))
        return len(ids)


async def leaves(conn: Connection, ids: Sequence[UUID]) -> tuple[dict[UUID, bytes], dict[UUID, datetime]]:
    """The leaf of each transaction that exists, from what its rows say now, and when it was recorded."""
    headers = await Q.transaction_fields(conn, ids=ids)
    entries: dict[UUID, list[bytes]] = {}
    for row in await Q.entry_fields(conn, ids=ids):
        entries.setdefault(row["id"], []).append(encoded(row["fields"]))
    found = {row["id"]: leaf(encoded(row["fields"]), entries.get(row["id"], [])) for row in headers}
    return found, {row["id"]: row["recorded_at"] for row in headers}


def encoded(fields: Iterable[str | None]) -> bytes:
    """Fields with their lengths before them."""
    parts = []
    for field in fields:
        if field is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            text = field.encode()
            parts += (len(text).to_bytes(4, "big"), text)
    return b"".join(parts)


def leaf(transaction: bytes, entries: Sequence[bytes]) -> bytes:
    """The hash of a transaction with its entries, all encoded."""
    return hashlib.sha256(b"".join((b"\x00", transaction, len(entries).to_bytes(4, "big"), *entries))).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """The root of the tree over the leaves, of which there is one at least."""
    level = list(hashes)
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def block_hash(lane: int, block: sql.Row) -> bytes:
    """The hash of a block, from a row of `block_headers`."""
    sealed_at = (block["sealed_at"] - EPOCH) // timedelta(microseconds=1)
    parts = (
        DOMAIN, lane.to_bytes(2, "big"), block["number"].to_bytes(8, "big"), block["previous"],
        sealed_at.to_bytes(8, "big"), block["total"].to_bytes(8, "big"),
        block["count"].to_bytes(4, "big"), block["root"],
    )  # fmt: skip
    return hashlib.sha256(b"".join(parts)).digest()
