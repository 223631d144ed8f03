from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from contracts.errors import IdempotencyInProgress, IdempotencyMismatch
from storage import idempotency
from storage.db import Database
from storage.idempotency import Claim, Stored

TTL = timedelta(days=1)


async def claim(database: Database, *, request: Any = "x", scope: str = "u:op") -> Claim | Stored:
    return await idempotency.claim(database, scope=scope, key="k" * 16, request=request, ttl=TTL)


async def answered(database: Database, held: Claim | Stored, body: Any = "first") -> None:
    assert isinstance(held, Claim)
    async with database.transaction() as conn:
        await idempotency.finish(conn, held, status=201, body=body)


async def test_the_first_answer_is_every_answer(database: Database) -> None:
    await answered(database, await claim(database))
    assert await claim(database) == Stored(201, "first")


async def test_the_order_of_members_is_no_difference(database: Database) -> None:
    await answered(database, await claim(database, request={"a": 1, "b": 2}))
    assert await claim(database, request={"b": 2, "a": 1}) == Stored(201, "first")


async def test_another_request_under_the_key_is_refused(database: Database) -> None:
    await answered(database, await claim(database))
    with pytest.raises(IdempotencyMismatch):
        await claim(database, request="y")


async def test_another_users_key_is_another_key(database: Database) -> None:
    await answered(database, await claim(database))
    assert isinstance(await claim(database, scope="v:op"), Claim)


async def test_one_of_fifty_gets_the_key(database: Database) -> None:
    got = await asyncio.gather(*(claim(database) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(result, Claim) for result in got) == 1
    assert all(isinstance(result, Claim | IdempotencyInProgress) for result in got)


async def test_a_dead_request_leaves_its_key_to_the_next_and_cannot_answer_any_more(database: Database) -> None:
    dead = await claim(database)
    async with database.transaction() as conn:
        await conn.raw.execute("UPDATE idempotency_keys SET locked_until = now() - interval '1 second'")
    heir = await claim(database)
    assert isinstance(heir, Claim)
    with pytest.raises(IdempotencyInProgress):
        await answered(database, dead)
    await answered(database, heir, "second")
    assert await claim(database) == Stored(201, "second")


async def test_a_released_key_is_free(database: Database) -> None:
    held = await claim(database)
    assert isinstance(held, Claim)
    await idempotency.release(database, held)
    assert isinstance(await claim(database, request="y"), Claim)


async def test_expired_keys_are_forgotten(database: Database) -> None:
    await answered(database, await claim(database))
    assert await idempotency.purge(database) == 0
    async with database.transaction() as conn:
        await conn.raw.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'")
    assert await idempotency.purge(database) == 1
