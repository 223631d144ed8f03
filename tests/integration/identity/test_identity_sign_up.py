"""From an address to a user, and every way in which that is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from handlers.identity import rules
from handlers.identity.passwords import Argon2Cost

SIGN_UP = {"email": "player@example.com", "password": "seven green shuttles", "display_name": "Smash"}


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


async def test_code_from_the_mail_makes_a_user_and_an_event(stack: Any) -> None:
    answer = await stack.post("/sign-ups", SIGN_UP)
    assert answer.status == 202
    body = await answer.json()
    assert body.keys() == {"sign_up_id", "expires_at", "code_length"}
    await stack.deliver()

    path = f"/sign-ups/{body['sign_up_id']}/verification"
    answer = await stack.post(path, {"code": stack.mailbox.last_code()})
    assert answer.status == 201
    assert answer.headers["Location"] == "/v1/identity/me"
    user = (await answer.json())["user"]
    assert (user["email"], user["display_name"]) == ("player@example.com", "Smash")

    event = await stack.value("SELECT to_jsonb(outbox) FROM outbox")
    assert (event["type"], event["subject"]) == ("user.signed_up", user["user_id"])
    assert event["channels"] == [f"user:{user['user_id']}"]
    assert event["data"] == {"user_id": user["user_id"], "verified_at": user["email_verified_at"]}


async def test_code_and_password_are_kept_nowhere_in_the_clear(stack: Any) -> None:
    sign_up_id = await stack.begin()
    code = stack.mailbox.last_code()
    rows = await stack.value(
        "SELECT string_agg(t::text, ' ') FROM (SELECT sign_ups::text FROM sign_ups UNION ALL "
        "SELECT emails::text FROM emails) AS t (t)"
    )
    assert code not in rows.replace(sign_up_id, "")
    assert SIGN_UP["password"] not in rows
    await stack.post(f"/sign-ups/{sign_up_id}/verification", {"code": code})
    assert await stack.value("SELECT password_hash FROM sign_ups") is None
    assert (await stack.value("SELECT hash FROM passwords")).startswith("$argon2id$v=19$")


async def test_wrong_codes_count_across_refusals_until_the_fifth_burns_the_sign_up(stack: Any) -> None:
    sign_up_id = await stack.begin()
    code = stack.mailbox.last_code()
    path = f"/sign-ups/{sign_up_id}/verification"
    for left in (4, 3, 2, 1, 0):
        answer = await stack.post(path, {"code": other_than(code)})
        problem = await answer.json()
        assert (answer.status, problem["code"], problem["attempts_left"]) == (422, "identity.code_wrong", left)
        assert await stack.value("SELECT wrong_codes FROM sign_ups") == 5 - left
    for path_of_it, body in ((path, {"code": code}), (f"/sign-ups/{sign_up_id}/code", None)):
        answer = await stack.post(path_of_it, body)
        assert (answer.status, (await answer.json())["code"]) == (410, "identity.sign_up_burned")
    assert await stack.value("SELECT count(*) FROM users") == 0


async def test_wrong_codes_sent_at_once_are_all_counted(stack: Any) -> None:
    sign_up_id = await stack.begin()
    wrong = {"code": other_than(stack.mailbox.last_code())}
    answers = await asyncio.gather(*(stack.post(f"/sign-ups/{sign_up_id}/verification", wrong) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [410] * 7 + [422] * 5


async def test_code_is_refused_when_expired_and_when_used(stack: Any) -> None:
    sign_up_id = await stack.begin()
    code = {"code": stack.mailbox.last_code()}
    path = f"/sign-ups/{sign_up_id}/verification"
    await stack.value("UPDATE sign_ups SET expires_at = now() - interval '1 second'")
    answer = await stack.post(path, code)
    assert (answer.status, (await answer.json())["code"]) == (410, "identity.sign_up_expired")

    await stack.value("UPDATE sign_ups SET expires_at = now() + interval '1 minute'")
    assert (await stack.post(path, code)).status == 201
    answer = await stack.post(path, code)
    assert (answer.status, (await answer.json())["code"]) == (410, "identity.sign_up_completed")


async def test_unknown_sign_up_is_not_found_and_a_malformed_id_breaks_the_contract(stack: Any) -> None:
    for path, body in (("verification", {"code": "123456"}), ("code", None)):
        answer = await stack.post(f"/sign-ups/sup_01kar6k5d0g2p4r6t8v0x2z4aj/{path}", body)
        assert (answer.status, (await answer.json())["code"]) == (404, "identity.sign_up_unknown")
        answer = await stack.post(f"/sign-ups/sup_x/{path}", body)
        assert answer.status == 400


async def test_taken_address_is_answered_alike_and_its_owner_is_told(stack: Any) -> None:
    free = await stack.post("/sign-ups", SIGN_UP)
    await stack.join()
    before = len(stack.mailbox.sent)
    taken = await stack.post("/sign-ups", {**SIGN_UP, "email": "PLAYER@Example.com"})
    assert taken.status == free.status == 202
    assert (await taken.json()).keys() == (await free.json()).keys()
    assert taken.headers.keys() == free.headers.keys()
    await stack.deliver()
    assert len(stack.mailbox.sent) == before + 1
    assert "already have" in stack.mailbox.sent[-1].subject
    assert await stack.value("SELECT password_hash FROM sign_ups WHERE address_taken") is None


async def test_no_code_completes_a_sign_up_for_a_taken_address(stack: Any) -> None:
    await stack.join()
    sign_up_id = await stack.begin()
    digest = rules.code_digest(b"c" * 32, sign_up_id, "123456")
    await stack.value("UPDATE sign_ups SET code_digest = $1 WHERE id = $2", digest, sign_up_id)
    path = f"/sign-ups/{sign_up_id}/verification"
    for status in (422, 422, 422, 422, 422, 410):
        assert (await stack.post(path, {"code": "123456"})).status == status
    assert await stack.value("SELECT count(*) FROM users") == 1


async def test_sign_up_takes_as_long_for_a_taken_address(make_stack: Callable[..., Awaitable[Any]]) -> None:
    stack = await make_stack(cost=Argon2Cost())
    await stack.join()

    async def seconds(email: str) -> float:
        fastest = []
        for _ in range(3):
            began = time.perf_counter()
            assert (await stack.post("/sign-ups", {**SIGN_UP, "email": email})).status == 202
            fastest.append(time.perf_counter() - began)
        return min(fastest)

    taken, free = await seconds("player@example.com"), await seconds("nobody@example.com")
    assert 0.5 < taken / free < 2


async def test_two_sign_ups_of_one_address_make_one_user(stack: Any) -> None:
    first = await stack.begin()
    first_code = stack.mailbox.last_code()
    second = await stack.begin("Player@example.com")
    second_code = stack.mailbox.last_code()
    answers = await asyncio.gather(
        stack.post(f"/sign-ups/{first}/verification", {"code": first_code}),
        stack.post(f"/sign-ups/{second}/verification", {"code": second_code}),
    )
    assert sorted(answer.status for answer in answers) == [201, 422]
    refused = next(answer for answer in answers if answer.status == 422)
    assert (await refused.json())["code"] == "identity.code_wrong"
    for table in ("users", "passwords", "outbox"):
        assert await stack.value(f"SELECT count(*) FROM {table}") == 1


async def test_one_code_sent_many_times_at_once_makes_one_user(stack: Any) -> None:
    sign_up_id = await stack.begin()
    code = {"code": stack.mailbox.last_code()}
    answers = await asyncio.gather(*(stack.post(f"/sign-ups/{sign_up_id}/verification", code) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [410] * 7
    assert await stack.value("SELECT count(*) FROM users") == 1


async def test_a_new_code_replaces_the_old_one_and_keeps_the_count(stack: Any) -> None:
    sign_up_id = await stack.begin()
    old = stack.mailbox.last_code()
    path = f"/sign-ups/{sign_up_id}"
    assert (await stack.post(f"{path}/verification", {"code": other_than(old)})).status == 422
    await stack.value("UPDATE sign_ups SET code_sent_at = now() - interval '30 seconds'")
    answer = await stack.post(f"{path}/code")
    assert answer.status == 202
    assert (await answer.json())["sign_up_id"] == sign_up_id
    await stack.deliver()
    new = stack.mailbox.last_code()
    if new != old:  # one time in a million they are the same
        answer = await stack.post(f"{path}/verification", {"code": old})
        assert (answer.status, (await answer.json())["attempts_left"]) == (422, 3)
    assert (await stack.post(f"{path}/verification", {"code": new})).status == 201


async def test_a_new_code_is_good_for_ten_minutes_again(stack: Any) -> None:
    sign_up_id = await stack.begin()
    await stack.value(
        "UPDATE sign_ups SET code_sent_at = now() - interval '9 minutes', expires_at = now() + interval '1 minute'"
    )
    assert (await stack.post(f"/sign-ups/{sign_up_id}/code")).status == 202
    remaining = await stack.value("SELECT extract(epoch FROM expires_at - now())::int FROM sign_ups")
    assert 590 <= remaining <= 600


async def test_resend_waits_longer_each_time_and_ends_after_five(stack: Any) -> None:
    sign_up_id = await stack.begin()
    path = f"/sign-ups/{sign_up_id}/code"
    for cool_down_s in (30, 60, 120, 120, 120):
        set_sent = "UPDATE sign_ups SET code_sent_at = now() - make_interval(secs => $1)"
        await stack.value(set_sent, cool_down_s - 10)
        answer = await stack.post(path)
        assert (answer.status, (await answer.json())["code"]) == (429, "identity.resend_too_soon")
        assert 9 <= int(answer.headers["Retry-After"]) <= 10
        await stack.value(set_sent, cool_down_s)
        assert (await stack.post(path)).status == 202
    await stack.value("UPDATE sign_ups SET code_sent_at = now() - interval '1 hour'")
    answer = await stack.post(path)
    assert (answer.status, (await answer.json())["code"]) == (422, "identity.resends_used_up")


async def test_resends_at_once_send_one_code(stack: Any) -> None:
    sign_up_id = await stack.begin()
    await stack.value("UPDATE sign_ups SET code_sent_at = now() - interval '30 seconds'")
    answers = await asyncio.gather(*(stack.post(f"/sign-ups/{sign_up_id}/code") for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [202, 429, 429, 429, 429]
    assert await stack.value("SELECT count(*) FROM emails") == 2


@pytest.mark.parametrize(
    ("field", "value", "status", "code", "rule"),
    [
        ("email", "player@localhost", 422, "identity.email_invalid", "email"),
        ("email", "player@host.invalid", 422, "identity.email_invalid", "email"),
        ("email", "not an address", 400, "contract.body", "format"),
        ("password", "too short", 400, "contract.body", "minLength"),
        ("password", "e\u0301" * 8, 422, "identity.password_weak", "minLength"),
        ("password", "passwordpassword", 422, "identity.password_weak", "guessable"),
        ("password", "player@example.com", 422, "identity.password_weak", "guessable"),
        ("display_name", "   ", 400, "contract.body", "pattern"),
        ("display_name", "a\tb", 400, "contract.body", "pattern"),
        ("display_name", "\u3000", 422, "identity.name_unfit", "showable"),
        ("display_name", "\u200d", 422, "identity.name_unfit", "showable"),
        ("display_name", "Smash\u202ekcab", 422, "identity.name_unfit", "showable"),
        ("display_name", "Sma\u2028sh", 422, "identity.name_unfit", "showable"),
    ],
)
async def test_refused_input_names_the_field_and_the_rule_and_not_the_value(
    stack: Any, field: str, value: str, status: int, code: str, rule: str
) -> None:
    answer = await stack.post("/sign-ups", {**SIGN_UP, field: value})
    problem = await answer.json()
    assert (answer.status, problem["code"]) == (status, code)
    assert [(fault["pointer"], fault["rule"]) for fault in problem["errors"]] == [(f"#/body/{field}", rule)]
    assert value not in await answer.text()
    assert await stack.value("SELECT count(*) FROM sign_ups") == 0


@pytest.mark.parametrize("name", ["Smash", "\u0958" * 60, "क्‍ष", "🏸", "李"])
async def test_name_of_any_script_is_kept_as_it_is_without_outer_spaces(stack: Any, name: str) -> None:
    answer = await stack.post("/sign-ups", {**SIGN_UP, "display_name": name if len(name) == 60 else f" {name} "})
    assert answer.status == 202
    assert await stack.value("SELECT display_name FROM sign_ups") == name


async def test_address_is_written_to_as_typed_and_kept_apart_from_its_key(stack: Any) -> None:
    assert (await stack.post("/sign-ups", {**SIGN_UP, "email": "Player@XN--BCHER-KVA.example"})).status == 202
    row = await stack.value("SELECT ARRAY[email, email_key] FROM sign_ups")
    assert row == ["Player@xn--bcher-kva.example", "player@xn--bcher-kva.example"]
