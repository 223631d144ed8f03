"""Idempotency keys: one effect per key, and its first answer for every repeat.

    claim ──▶ new, or its first request died ──▶ work ──▶ finish, in the effect's own transaction
          ├─▶ answered before                ──▶ that answer again
          ├─▶ still running                  ──▶ 409 idempotency.in_progress
          └─▶ says something else            ──▶ 422 idempotency.mismatch

A claim is a lease: when the process dies the next repeat takes over, so the work under a key must be able to find
what an earlier try left behind. Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.errors import IdempotencyInProgress, IdempotencyMismatch
from storage import sql
from storage.db import Connection, Database

Q = sql.load(__package__, "idempotency.sql")

LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out one request, until the lease ends."""

    scope: str
    key_hash: bytes
    locked_until: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer that the key got before."""

    status: int
    body: Any


async def claim(db: Database, *, scope: str, key: str, request: Any, ttl: timedelta) -> Claim | Stored:
    """Take a key for a request, in a transaction of its own.

    `scope` names user and operation, `request` is the validated body: its canonical form decides what "the same
    request" is. Raises IdempotencyInProgress and IdempotencyMismatch.
    """
    key_hash = hashlib.sha256(key.encode()).digest()
    canonical = json.dumps(request, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(canonical.encode()).digest()
    async with db.transaction() as conn:
        taken = await Q.claim_key(
            conn, scope=scope, key_hash=key_hash, fingerprint=fingerprint, lease=LEASE, ttl=ttl
        )  # fmt: skip
        if taken is not None:
            return Claim(scope, key_hash, taken["locked_until"])
        known = await Q.read_key(conn, scope=scope, key_hash=key_hash)
    if known is None:  # released between the two statements
        raise IdempotencyInProgress
    if known["fingerprint"] != fingerprint:
        raise IdempotencyMismatch
    if known["status"] is None:
        raise IdempotencyInProgress
    return Stored(known["status"], known["body"])


async def finish(conn: Connection, held: Claim, *, status: int, body: Any) -> None:
    """Store the answer. Raises IdempotencyInProgress when the lease ran out and another request took over."""
    stored = await Q.finish_key(
        conn, scope=held.scope, key_hash=held.key_hash, locked_until=held.locked_until, status=status, body=body
    )
    if not stored:
        raise IdempotencyInProgress


async def release(db: Database, held: Claim) -> None:
    """Give a key back after a failure that left no effect, so that the client may try again at once."""
    async with db.transaction() as conn:
        await Q.release_key(conn, scope=held.scope, key_hash=held.key_hash, locked_until=held.locked_until)


async def purge(db: Database, *, batch: int = 1000) -> int:
    """Forget expired keys; return how many."""
    async with db.transaction() as conn:
        return int(await Q.purge_keys(conn, limit=batch))
