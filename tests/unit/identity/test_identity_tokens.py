"""Access tokens: what is issued passes, and every way of being wrong is refused alike."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from contracts.runtime.problem import AuthenticationInvalid, Problem, ScopeMissing
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, SessionEnded, TokenConfig, TokenExpired
from storage.db import Database

CONFIG = TokenConfig(issuer="https://id.matchday.example", audience="https://api.matchday.example")
USER = "usr_01kar6m8w3e9q8x2v7c5n4t1zy"
SESSION = "ses_01kar6p2k7f1m9d3s5h8w0b6cx"
KEY, OLD_KEY, FOREIGN_KEY = (ECKey.generate_key("P-256") for _ in range(3))
HEADER = {"alg": "ES256", "typ": "at+jwt", "kid": KEY.thumbprint()}
REQUEST = make_mocked_request("GET", "/")


class FreshRevocations(Revocations):
    """As up to date as can be, without a database; `asked` is what the database would say."""

    asked: bool | None = None

    def __init__(self) -> None:
        super().__init__(Database("postgresql://nowhere/none"))
        self._seen_at = float("inf")

    async def ask(self, session_id: str) -> bool:
        assert self.asked is not None
        return self.asked


def pem(key: ECKey, *, private: bool = True) -> str:
    return key.as_pem(private=private).decode()


@pytest.fixture
def revocations() -> FreshRevocations:
    return FreshRevocations()


@pytest.fixture
def tokens(revocations: FreshRevocations) -> AccessTokens:
    return AccessTokens([pem(KEY), pem(OLD_KEY, private=False)], config=CONFIG, revocations=revocations)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": CONFIG.issuer, "aud": CONFIG.audience, "client_id": "matchday", "sub": USER, "sid": SESSION,
        "jti": "tok_01kar6p2k7f1m9d3s5h8w0b6cx", "scope": "profile:read", "iat": now, "nbf": now, "auth_time": now,
        "exp": now + 900,
    }  # fmt: skip
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def sign(body: dict[str, Any], key: ECKey = KEY, **header: Any) -> str:
    full = {"alg": "ES256", "typ": "at+jwt", "kid": key.thumbprint(), **header}
    return jwt.encode({name: value for name, value in full.items() if value is not None}, body, key, default_type=None)


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned_with(**header: Any) -> str:
    return f"{encoded({**HEADER, **header})}.{encoded(claims())}.{encoded(b's' * 64)}"


def issue(tokens: AccessTokens, *scopes: str, **life: float) -> str:
    now = datetime.now(UTC)
    until = now + timedelta(**(life or {"minutes": 15}))
    return tokens.issue(user_id=USER, session_id=SESSION, scopes=scopes, at=now, until=until)


async def refusal(tokens: AccessTokens, credential: str, *scopes: str) -> Problem:
    with pytest.raises(Problem) as caught:
        await tokens.verify(REQUEST, credential, scopes)
    return caught.value


async def test_an_issued_token_says_who_asks_and_what_they_may(tokens: AccessTokens) -> None:
    token = issue(tokens, "profile:read", "wallet:read")
    principal = await tokens.verify(REQUEST, token, ["wallet:read"])
    assert (principal.user_id, principal.session_id) == (USER, SESSION)
    assert principal.scopes == {"profile:read", "wallet:read"}
    assert timedelta(minutes=14) < principal.expires_at - datetime.now(UTC) <= timedelta(minutes=15)


async def test_an_issued_token_has_the_header_and_claims_of_rfc_9068(tokens: AccessTokens) -> None:
    header, body, _ = issue(tokens, "profile:read").split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == HEADER
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert said.keys() == claims().keys()
    assert said["exp"] - said["iat"] == 900


async def test_a_key_that_signs_no_more_still_verifies(tokens: AccessTokens) -> None:
    assert (await tokens.verify(REQUEST, sign(claims(), OLD_KEY), [])).user_id == USER


async def test_the_long_form_of_the_type_is_taken(tokens: AccessTokens) -> None:
    assert (await tokens.verify(REQUEST, sign(claims(), typ="application/at+JWT"), [])).user_id == USER


def _unsigned(tokens: AccessTokens) -> str:
    return f"{encoded({'alg': 'none', 'typ': 'at+jwt', 'kid': KEY.thumbprint()})}.{encoded(claims())}."


def _hmac_with_the_public_key(tokens: AccessTokens) -> str:
    text = f"{encoded({'alg': 'HS256', 'typ': 'at+jwt', 'kid': KEY.thumbprint()})}.{encoded(claims())}"
    secret = pem(KEY, private=False).encode()
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), sha256))}"


def _tampered(tokens: AccessTokens) -> str:
    header, _, signature = issue(tokens).split(".")
    return f"{header}.{encoded(claims(scope='wallet:write'))}.{signature}"


def _header_of_brackets(tokens: AccessTokens) -> str:
    return f"{encoded(b'[' * 6000)}.{encoded(claims())}.{encoded(b's' * 64)}"


FORGERIES: dict[str, Callable[[AccessTokens], str]] = {
    "no algorithm": _unsigned,
    "another algorithm": _hmac_with_the_public_key,
    "changed claims": _tampered,
    "deep header": _header_of_brackets,
    "no signature": lambda tokens: issue(tokens).rpartition(".")[0] + ".",
    "foreign key": lambda _: sign(claims(), FOREIGN_KEY),
    "foreign key under our kid": lambda _: sign(claims(), FOREIGN_KEY, kid=KEY.thumbprint()),
    "foreign key brought along": lambda _: sign(
        claims(), FOREIGN_KEY, kid=KEY.thumbprint(), jwk=FOREIGN_KEY.as_dict(private=False)
    ),
    "no kid": lambda _: sign(claims(), kid=None),
    "kid is no text": lambda _: unsigned_with(kid=["a"]),
    "plain type": lambda _: sign(claims(), typ="JWT"),
    "no type": lambda _: sign(claims(), typ=None),
    "unknown critical header": lambda _: unsigned_with(crit=["x"], x=1),
    "other issuer": lambda _: sign(claims(iss="https://evil.example")),
    "other audience": lambda _: sign(claims(aud="https://other.example")),
    "not yet": lambda _: sign(claims(nbf=int(time.time()) + 120)),
    "issued in the future": lambda _: sign(claims(iat=int(time.time()) + 120)),
    "subject is no user": lambda _: sign(claims(sub=SESSION)),
    "session is no session": lambda _: sign(claims(sid=USER)),
    "end is no number": lambda _: sign(claims(exp="2099")),
    "end beyond all time": lambda _: sign(claims(exp=10**30)),
    "claims are no object": lambda _: jws.serialize_compact(HEADER, b"[1]", KEY),
    **{f"no {name}": lambda _, name=name: sign(claims(**{name: None})) for name in claims()},  # type: ignore[misc]
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "garbage": lambda _: "a.b.c",
    "not ascii": lambda _: "é.é.é",
    "five parts": lambda _: "a.b.c.d.e",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_token_that_is_wrong_in_any_way_is_invalid(
    tokens: AccessTokens, forge: Callable[[AccessTokens], str]
) -> None:
    problem = await refusal(tokens, forge(tokens))
    assert isinstance(problem, AuthenticationInvalid)
    assert (problem.status, problem.code, problem.detail) == (401, "auth.invalid", None)
    assert not tokens._verified


async def test_a_token_beyond_8_kib_is_refused_unread(tokens: AccessTokens) -> None:
    token = sign(claims(padding="x" * 8192))
    assert isinstance(await refusal(tokens, token), AuthenticationInvalid)
    assert (await tokens.verify(REQUEST, sign(claims(padding="x" * 5000)), [])).user_id == USER


@pytest.mark.parametrize("ago_s", [1, 29, 31, 10_000])
async def test_an_expired_token_says_so(tokens: AccessTokens, ago_s: int) -> None:
    problem = await refusal(tokens, sign(claims(exp=int(time.time()) - ago_s)))
    assert isinstance(problem, TokenExpired)
    assert (problem.status, problem.code) == (401, "auth.expired")


async def test_clocks_may_lie_half_a_minute_apart(tokens: AccessTokens) -> None:
    ahead = int(time.time()) + 25
    assert (await tokens.verify(REQUEST, sign(claims(iat=ahead, nbf=ahead, auth_time=ahead)), [])).user_id == USER


async def test_a_remembered_token_ends_with_its_time(tokens: AccessTokens) -> None:
    token = issue(tokens, seconds=2)
    await tokens.verify(REQUEST, token, [])
    deadline = time.monotonic() + 5
    ended = False
    while not ended:
        assert time.monotonic() < deadline
        try:
            await tokens.verify(REQUEST, token, [])
            await asyncio.sleep(0.01)
        except TokenExpired:
            ended = True


async def test_a_remembered_token_is_not_verified_again_and_the_memory_is_bounded(
    revocations: FreshRevocations,
) -> None:
    config = TokenConfig(issuer=CONFIG.issuer, audience=CONFIG.audience, cache_size=2)
    tokens = AccessTokens([pem(KEY)], config=config, revocations=revocations)
    first, second, third = (issue(tokens, f"scope:{name}") for name in ("a", "b", "c"))
    for token in (first, second, first, third):
        await tokens.verify(REQUEST, token, [])
    tokens._keys.clear()
    await tokens.verify(REQUEST, first, [])
    await tokens.verify(REQUEST, third, [])
    assert isinstance(await refusal(tokens, second), AuthenticationInvalid)


async def test_a_missing_scope_is_forbidden_and_named(tokens: AccessTokens) -> None:
    problem = await refusal(tokens, issue(tokens, "profile:read"), "profile:read", "wallet:read")
    assert isinstance(problem, ScopeMissing)
    assert (problem.status, problem.extra) == (403, {"scopes": ["profile:read", "wallet:read"]})


async def test_a_revoked_session_ends_its_remembered_tokens(
    tokens: AccessTokens, revocations: FreshRevocations
) -> None:
    token = issue(tokens)
    principal = await tokens.verify(REQUEST, token, [])
    revocations.note(SESSION, principal.expires_at)
    problem = await refusal(tokens, token)
    assert isinstance(problem, SessionEnded)
    assert (problem.status, problem.code) == (401, "auth.session_ended")


@pytest.mark.parametrize("revoked", [True, False])
async def test_without_fresh_news_the_database_is_asked(
    tokens: AccessTokens, revocations: FreshRevocations, revoked: bool
) -> None:
    token = issue(tokens)
    revocations._seen_at = time.monotonic() - 2.1
    revocations.asked = revoked
    if revoked:
        assert isinstance(await refusal(tokens, token), SessionEnded)
    else:
        assert (await tokens.verify(REQUEST, token, [])).user_id == USER


def test_keys_that_will_not_do_are_refused_at_once(revocations: FreshRevocations) -> None:
    p384 = pem(ECKey.generate_key("P-384"))
    for keys in ([], [pem(KEY, private=False)], [p384], [pem(KEY), p384], ["not a key"]):
        with pytest.raises(ValueError, match="key"):
            AccessTokens(keys, config=CONFIG, revocations=revocations)
