"""Hashing, normal form, pepper, strength, and the bounded queue."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from handlers.identity.passwords import Argon2Cost, PasswordHasher, ensure_strong
from handlers.identity.rules import PasswordsBusy, PasswordWeak

CHEAP = Argon2Cost(memory_kib=64)
KNOWN = ("player@example.com", "player", "Smash", "Matchday")


@pytest.fixture
def hasher() -> Iterator[PasswordHasher]:
    hasher = PasswordHasher(pepper=b"p" * 32, workers=2, queue_limit=8, cost=CHEAP)
    yield hasher
    hasher.close()


async def test_a_hash_is_argon2id_with_its_parameters_and_never_twice_the_same(hasher: PasswordHasher) -> None:
    first, second = await hasher.hash_again("seven green shuttles"), await hasher.hash_again("seven green shuttles")
    assert first.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert first != second
    assert await hasher.verify("seven green shuttles", first)
    assert not await hasher.verify("seven green shuttle", first)


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        ("café au lait 1234", "cafe\u0301 au lait 1234"),
        ("\uff26\uff55\uff4c\uff4c width", "Full width"),
        ("ﬁve ﬁne ﬁddles", "five fine fiddles"),
    ],
)
async def test_one_password_in_two_unicode_forms(hasher: PasswordHasher, chosen: str, typed: str) -> None:
    assert await hasher.verify(typed, await hasher.hash_again(chosen))


async def test_no_part_of_a_long_password_is_left_out(hasher: PasswordHasher) -> None:
    stored = await hasher.hash_again("x" * 255 + "a")
    assert await hasher.verify("x" * 255 + "a", stored)
    assert not await hasher.verify("x" * 255 + "b", stored)


async def test_a_hash_is_worth_nothing_under_another_pepper(hasher: PasswordHasher) -> None:
    other = PasswordHasher(pepper=b"q" * 32, workers=1, queue_limit=0, cost=CHEAP)
    assert not await other.verify("seven green shuttles", await hasher.hash_again("seven green shuttles"))
    other.close()


@pytest.mark.parametrize("password", ["", "seven green shuttles"])
async def test_nobody_has_no_password_not_even_the_one_that_is_compared(hasher: PasswordHasher, password: str) -> None:
    assert await hasher.verify(password, None) is False


async def test_a_hash_made_with_less_work_is_outdated(hasher: PasswordHasher) -> None:
    stronger = PasswordHasher(pepper=b"p" * 32, workers=1, queue_limit=0, cost=Argon2Cost(memory_kib=128))
    stored = await hasher.hash_again("seven green shuttles")
    assert not hasher.is_outdated(stored)
    assert stronger.is_outdated(stored)
    assert await stronger.verify("seven green shuttles", stored)
    stronger.close()


async def test_production_cost_is_what_owasp_asks() -> None:
    hasher = PasswordHasher(pepper=b"p" * 32, workers=1, queue_limit=0, cost=Argon2Cost())
    assert (await hasher.hash_again("x")).startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    hasher.close()


async def test_what_does_not_fit_the_queue_is_refused_and_the_queue_empties() -> None:
    hasher = PasswordHasher(pepper=b"p" * 32, workers=1, queue_limit=2, cost=Argon2Cost())
    results = await asyncio.gather(*(hasher.verify("x", None) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [bool, bool, bool, PasswordsBusy, PasswordsBusy]
    assert await hasher.verify("x", None) is False
    hasher.close()


async def test_callers_who_went_away_do_not_keep_their_places() -> None:
    hasher = PasswordHasher(pepper=b"p" * 32, workers=1, queue_limit=2, cost=Argon2Cost())
    callers = [asyncio.create_task(hasher.verify("x", None)) for _ in range(3)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    deadline = time.monotonic() + 5
    results: list[object] = []
    while results != [False] * 3:
        assert time.monotonic() < deadline
        results = await asyncio.gather(*(hasher.verify("x", None) for _ in range(3)), return_exceptions=True)
    hasher.close()


def test_a_short_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PasswordHasher(pepper=b"short", workers=1, queue_limit=0, cost=CHEAP)


@pytest.mark.parametrize(
    "password",
    [
        "123456789012345", "aaaaaaaaaaaaaaa", "qwertyuiopasdfgh", "passwordpassword", "P@ssw0rd12345678",
        "iloveyou12345678", "player@example.com", "Player@Example.com!", "matchdaymatchday", "Smash Smash Smash",
    ],
)  # fmt: skip
def test_what_an_attacker_tries_first_is_refused_with_a_reason(password: str) -> None:
    with pytest.raises(PasswordWeak) as refusal:
        ensure_strong(password, known=KNOWN)
    assert refusal.value.detail
    assert refusal.value.errors is not None
    assert (refusal.value.errors[0].pointer, refusal.value.errors[0].rule) == ("#/body/password", "guessable")


@pytest.mark.parametrize(
    "password", ["seven green shuttles", "kX9#vLq2!mZ7@pR4", "भारत मेरा देश है सब", "🏸🎾🏓🏑🏏🥍🏒⚽🏀🏐🏈🥎🎱🪀🥊"]
)
def test_a_strong_password_of_any_script_is_taken(password: str) -> None:
    ensure_strong(password, known=KNOWN)


@pytest.mark.parametrize("password", ["4@8({[<369&0$5+7%!|1xz2" * 11, "5!1+6&&!(%@75|99x(|%46|+24$3<{" * 8])
def test_no_password_takes_long_to_judge(password: str) -> None:
    fastest = []
    for _ in range(3):
        began = time.perf_counter()
        with suppress(PasswordWeak):
            ensure_strong(password[:256], known=KNOWN)
        fastest.append(time.perf_counter() - began)
    assert min(fastest) < 0.25


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads that take turns a thousand times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 1000)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("busy_threads")
async def test_the_words_of_one_user_do_not_count_for_another() -> None:
    hasher = PasswordHasher(pepper=b"p" * 32, workers=4, queue_limit=100, cost=CHEAP)
    word = "xylotomous quokka"
    results = await asyncio.gather(
        *(hasher.hash_new(word, known=known) for known in [(word,), KNOWN] * 25), return_exceptions=True
    )
    assert [type(result) for result in results] == [PasswordWeak, str] * 25
    hasher.close()
