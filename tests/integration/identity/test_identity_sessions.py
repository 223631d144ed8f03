"""Signing in and out, and what a token is worth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from handlers.identity.passwords import Argon2Cost, PasswordHasher
from handlers.identity.sessions import Revocations
from storage.db import Database

PASSWORD = "seven green shuttles"
DEADLINE_S = 2.0


async def test_sign_in_gives_a_token_that_shows_the_profile(stack: Any) -> None:
    user_id = await stack.join()
    answer = await stack.post("/sessions", {"email": "PLAYER@example.com", "password": PASSWORD})
    assert answer.status == 201
    assert answer.headers["Location"] == "/v1/identity/sessions/current"
    assert answer.headers["Cache-Control"] == "no-store"
    session = await answer.json()
    assert (session["token_type"], session["scopes"]) == ("Bearer", ["profile:read"])

    bearer = {"Authorization": f"Bearer {session['access_token']}"}
    answer = await stack.client.get("/v1/identity/me", headers=bearer)
    assert answer.status == 200
    assert (await answer.json())["user_id"] == user_id


async def test_wrong_password_and_unknown_address_are_answered_alike(stack: Any) -> None:
    await stack.join()
    answers = [
        await stack.post("/sessions", {"email": email, "password": password})
        for email, password in (
            ("player@example.com", "seven green shuttle"),
            ("nobody@example.com", PASSWORD),
            ("player@localhost", PASSWORD),
        )
    ]
    problems = [await answer.json() for answer in answers]
    for answer, problem in zip(answers, problems, strict=True):
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert problem.pop("instance")
    assert problems[0] == problems[1] == problems[2]
    assert problems[0]["code"] == "identity.credentials"
    assert answers[0].headers.keys() == answers[1].headers.keys()


async def test_unknown_address_takes_as_long_as_a_wrong_password(make_stack: Callable[..., Awaitable[Any]]) -> None:
    stack = await make_stack(cost=Argon2Cost())
    await stack.join()

    async def seconds(email: str) -> float:
        fastest = []
        for _ in range(3):
            began = time.perf_counter()
            assert (await stack.post("/sessions", {"email": email, "password": "wrong"})).status == 401
            fastest.append(time.perf_counter() - began)
        return min(fastest)

    unknown, wrong = await seconds("nobody@example.com"), await seconds("player@example.com")
    assert 0.5 < unknown / wrong < 2


async def test_password_typed_in_another_unicode_form_is_the_same(stack: Any) -> None:
    body = {"email": "player@example.com", "password": "café au lait à \uff2cyon", "display_name": "Smash"}
    answer = await stack.post("/sign-ups", body)
    assert answer.status == 202
    await stack.deliver()
    path = f"/sign-ups/{(await answer.json())['sign_up_id']}/verification"
    assert (await stack.post(path, {"code": stack.mailbox.last_code()})).status == 201
    typed = "cafe\u0301 au lait a\u0300 Lyon"
    answer = await stack.post("/sessions", {"email": "player@example.com", "password": typed})
    assert answer.status == 201


async def test_sign_in_renews_a_hash_made_with_less_work(make_stack: Callable[..., Awaitable[Any]]) -> None:
    weaker, stronger = await make_stack(), await make_stack(cost=Argon2Cost(memory_kib=128))
    await weaker.join()
    old = await weaker.value("SELECT hash FROM passwords")
    await weaker.sign_in()
    assert await weaker.value("SELECT hash FROM passwords") == old
    await stronger.sign_in()
    new = await weaker.value("SELECT hash FROM passwords")
    assert "m=64," in old
    assert "m=128," in new
    await stronger.sign_in()
    assert await weaker.value("SELECT hash FROM passwords") == new


async def test_too_many_passwords_at_once_are_refused_and_tell_when_to_come_back(stack: Any) -> None:
    full = PasswordHasher(pepper=b"p" * 32, workers=1, queue_limit=1, cost=Argon2Cost())
    stack.service._hasher = full
    try:
        body = {"email": "player@example.com", "password": PASSWORD}
        answers = await asyncio.gather(*(stack.post("/sessions", body) for _ in range(8)))
    finally:
        full.close()
    busy = [answer for answer in answers if answer.status == 503]
    assert busy
    assert {answer.status for answer in answers} == {401, 503}
    assert (await busy[0].json())["code"] == "identity.busy"
    assert int(busy[0].headers["Retry-After"]) >= 1


async def test_signed_out_token_is_refused_here_at_once_and_on_another_node_within_two_seconds(
    make_stack: Callable[..., Awaitable[Any]],
) -> None:
    here, there = await make_stack(), await make_stack()
    await here.join()
    bearer, other = await here.sign_in(), await here.sign_in()
    for node in (here, there):
        assert (await node.client.get("/v1/identity/me", headers=bearer)).status == 200
    assert (await here.client.delete("/v1/identity/sessions/current", headers=bearer)).status == 204
    ended = time.monotonic()

    answer = await here.client.get("/v1/identity/me", headers=bearer)
    assert (answer.status, (await answer.json())["code"]) == (401, "auth.session_ended")
    while (await there.client.get("/v1/identity/me", headers=bearer)).status == 200:
        assert time.monotonic() - ended < DEADLINE_S
        await asyncio.sleep(0)
    assert (await there.client.get("/v1/identity/me", headers=other)).status == 200


async def test_a_revocation_that_commits_late_is_not_missed(stack: Any, database_dsn: str) -> None:
    await stack.join()
    session_id = await _session(stack)
    feed = Revocations(stack.database)
    slow = await asyncpg.connect(database_dsn)
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(
            "UPDATE sessions SET revoked_at = now(), revoked_in = pg_current_xact_id() WHERE id = $1", session_id
        )
        # Later transactions come and go before it commits, and the feed sees them.
        later = await _session(stack)
        await stack.value(
            "UPDATE sessions SET revoked_at = now(), revoked_in = pg_current_xact_id() WHERE id = $1", later
        )
        await feed.refresh()
        assert (feed.look_up(session_id), feed.look_up(later)) == (False, True)
        await transaction.commit()
    finally:
        await slow.close()
    await feed.refresh()
    assert feed.look_up(session_id) is True


async def test_a_stale_feed_asks_the_database_and_never_lets_a_token_pass_unasked(stack: Any) -> None:
    await stack.join()
    bearer = await stack.sign_in()
    await stack.revocations.stop()
    stack.revocations._seen_at -= 3
    assert stack.revocations.look_up("ses_any") is None
    assert (await stack.client.get("/v1/identity/me", headers=bearer)).status == 200
    await stack.value("UPDATE sessions SET revoked_at = now(), revoked_in = pg_current_xact_id()")
    answer = await stack.client.get("/v1/identity/me", headers=bearer)
    assert (answer.status, (await answer.json())["code"]) == (401, "auth.session_ended")

    await stack.value("DELETE FROM sessions")
    assert (await stack.client.get("/v1/identity/me", headers=bearer)).status == 401


async def test_a_feed_that_cannot_read_grows_stale_and_recovers(stack: Any, database_dsn: str) -> None:
    await stack.join()
    session_id = await _session(stack)
    await stack.value("UPDATE sessions SET revoked_at = now(), revoked_in = pg_current_xact_id()")
    database = Database(database_dsn, pool_min=1, pool_max=1, acquire_timeout_s=0.05)
    await database.connect()
    try:
        feed = Revocations(database)
        feed._horizon = str(2**62)  # as on a server that was restored elsewhere
        async with database.connection():
            await asyncio.create_task(feed.refresh())
            assert feed.look_up(session_id) is None
        await feed.refresh()
        assert feed.look_up(session_id) is True
    finally:
        await database.disconnect()


async def test_sessions_whose_tokens_ended_by_themselves_are_forgotten(stack: Any) -> None:
    await stack.join()
    session_id = await _session(stack)
    feed = Revocations(stack.database)
    await stack.value("UPDATE sessions SET revoked_at = now(), revoked_in = pg_current_xact_id()")
    await feed.refresh()
    assert session_id in feed._ended
    feed._ended[session_id] = feed._ended[session_id].replace(year=2000)
    await stack.value("UPDATE sessions SET expires_at = now() - interval '2 minutes'")
    await feed.refresh()
    assert feed._ended == {}


async def test_signing_out_twice_keeps_the_first_time(stack: Any) -> None:
    await stack.join()
    bearer = await stack.sign_in()
    principal = await stack.tokens.verify(None, bearer["Authorization"].removeprefix("Bearer "), [])
    await stack.service.end_session(principal)
    first = await stack.value("SELECT revoked_at FROM sessions")
    await stack.service.end_session(principal)
    assert await stack.value("SELECT revoked_at FROM sessions") == first
    assert (await stack.client.delete("/v1/identity/sessions/current", headers=bearer)).status == 401


async def test_profile_of_a_user_who_is_gone_is_not_shown(stack: Any) -> None:
    await stack.join()
    bearer = await stack.sign_in()
    await stack.value("DELETE FROM users")
    assert (await stack.client.get("/v1/identity/me", headers=bearer)).status == 401


async def test_no_token_and_garbage_are_challenged(stack: Any) -> None:
    for headers in ({}, {"Authorization": "Bearer a.b.c"}, {"Authorization": "Bearer " + "a" * 7000}):
        answer = await stack.client.get("/v1/identity/me", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def _session(stack: Any) -> str:
    answer = await stack.post("/sessions", {"email": "player@example.com", "password": PASSWORD})
    session_id: str = (await answer.json())["session_id"]
    return session_id


async def test_a_user_deleted_while_signing_in_is_unknown(stack: Any) -> None:
    await stack.join()
    verify = stack.hasher.verify

    async def verify_and_delete(password: str, stored: str | None) -> bool:
        matches: bool = await verify(password, stored)
        await stack.value("DELETE FROM users")
        return matches

    stack.hasher.verify = verify_and_delete
    answer = await stack.post("/sessions", {"email": "player@example.com", "password": PASSWORD})
    assert (answer.status, (await answer.json())["code"]) == (401, "identity.credentials")
