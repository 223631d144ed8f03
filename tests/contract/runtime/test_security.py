"""Security requirements: schemes, alternatives, scopes, challenges, and that nothing of a stranger's body is read."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from contracts.runtime import ContractError, Problem, RuntimeOptions
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    BASE,
    Recorder,
    accept_good,
    body_operation,
    closed,
    document,
    operation,
    runtime_app,
)

URL = f"{BASE}/things"
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "session"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
    "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://a.example/t", "scopes": {}}}},
}
BEARER = {"Authorization": "Bearer good"}


@dataclass
class Principal:
    name: str
    scopes: frozenset[str]


async def accept_basic(request: web.Request, credential: str, scopes: Sequence[str]) -> str:
    if credential != "somebody:pass:word":
        raise Problem(status=401, code="auth.invalid", title="No")
    return "basic"


async def with_scopes(request: web.Request, credential: str, scopes: Sequence[str]) -> Principal:
    return Principal("somebody", frozenset({"read"}))


SECURITY = dict.fromkeys(SCHEMES, accept_good) | {"basic": accept_basic}


def protected(*alternatives: dict[str, list[str]]) -> dict[str, Any]:
    used = {name for alternative in alternatives for name in alternative}
    schemes = {name: SCHEMES[name] for name in used}
    return document({"/things": {"get": operation(security=list(alternatives))}}, schemes=schemes)


def app(*alternatives: dict[str, list[str]], recorder: Recorder | None = None, **security: Any) -> web.Application:
    return runtime_app(
        protected(*alternatives), recorder, security=SECURITY | security, options=RuntimeOptions(title="S")
    )


@pytest.mark.parametrize(
    ("scheme", "good", "bad"),
    [
        ("bearer", {"Authorization": "Bearer good"}, {"Authorization": "Bearer bad"}),
        ("bearer", {"Authorization": "bearer   good"}, {"Authorization": "Bearer go od"}),
        ("oauth", {"Authorization": "Bearer good"}, {"Authorization": "Bearer \u20b9"}),
        ("basic", "somebody:pass:word", "somebody:wrong"),
        ("header", {"X-Key": "good"}, {"X-Key": ""}),
        ("cookie", {"Cookie": "session=good"}, {"Cookie": "session=bad"}),
    ],
)
async def test_schemes(connect: Connect, scheme: str, good: Any, bad: Any) -> None:
    def headers(given: Any) -> dict[str, str]:
        if isinstance(given, dict):
            return given
        return {"Authorization": f"Basic {base64.b64encode(given.encode()).decode()}"}

    recorder = Recorder()
    client = await connect(app({scheme: []}, recorder=recorder))
    assert (await client.get(URL, headers=headers(good))).status == 200
    assert recorder.last.principal in ("principal", "basic")
    for refused, code in ((headers(bad), "auth.invalid"), ({}, "auth.missing")):
        answer = await client.get(URL, headers=refused)
        assert (answer.status, (await answer.json())["code"]) == (401, code)
        assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "Basic YQ==", "Basic gA=="])
async def test_malformed_basic_credentials(connect: Connect, value: str) -> None:
    client = await connect(app({"basic": []}))
    answer = await client.get(URL, headers={"Authorization": value})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="S"')


async def test_challenges(connect: Connect) -> None:
    client = await connect(app({"bearer": ["read"]}, bearer=with_scopes))
    assert (await client.get(URL)).headers["WWW-Authenticate"] == 'Bearer realm="S"'
    assert (await client.get(URL, headers=BEARER)).status == 200
    client = await connect(app({"bearer": ["read"]}))
    answer = await client.get(URL, headers={"Authorization": "Bearer bad"})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="S", error="invalid_token"'
    client = await connect(app({"bearer": ["read", "write"]}, bearer=with_scopes))
    answer = await client.get(URL, headers=BEARER)
    assert (answer.status, (await answer.json())["code"]) == (403, "auth.scope")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="S", error="insufficient_scope", scope="read write"'


async def test_a_handlers_own_challenge_survives(connect: Connect) -> None:
    async def step_up(request: web.Request, credential: str, scopes: Sequence[str]) -> Any:
        raise Problem(
            status=401, code="auth.second_factor", title="More", headers={"WWW-Authenticate": 'Bearer acr="2"'}
        )

    client = await connect(app({"bearer": []}, bearer=step_up))
    answer = await client.get(URL, headers=BEARER)
    assert (answer.headers["WWW-Authenticate"], (await answer.json())["code"]) == (
        'Bearer acr="2"',
        "auth.second_factor",
    )


async def test_a_403_for_another_reason_has_no_challenge(connect: Connect) -> None:
    async def frozen(request: web.Request, credential: str, scopes: Sequence[str]) -> Any:
        raise Problem(status=403, code="wallet.frozen", title="Frozen")

    client = await connect(app({"bearer": []}, bearer=frozen))
    answer = await client.get(URL, headers=BEARER)
    assert (answer.status, (await answer.json())["code"]) == (403, "wallet.frozen")
    assert "WWW-Authenticate" not in answer.headers


async def test_one_of_several(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(app({"bearer": []}, {"header": []}, recorder=recorder))
    assert (await client.get(URL, headers=BEARER)).status == 200
    assert (await client.get(URL, headers={"X-Key": "good"})).status == 200
    # One good credential is enough, whatever else was sent.
    assert (await client.get(URL, headers={"Authorization": "Bearer bad", "X-Key": "good"})).status == 200
    answer = await client.get(URL)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="S", ApiKey realm="S"'


async def test_all_of_several(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(app({"bearer": ["a"], "header": ["b"]}, recorder=recorder))
    assert (await client.get(URL, headers=BEARER)).status == 401
    assert (await client.get(URL, headers=BEARER | {"X-Key": "bad"})).status == 401
    assert (await client.get(URL, headers=BEARER | {"X-Key": "good"})).status == 200
    assert recorder.last.principal == {"bearer": "principal", "header": "principal"}
    assert recorder.last.scopes == {"a", "b"}


async def test_optional_credentials(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(app({"bearer": []}, {}, recorder=recorder))
    assert (await client.get(URL)).status == 200
    assert recorder.last.principal is None
    assert (await client.get(URL, headers=BEARER)).status == 200
    assert recorder.last.principal == "principal"
    # Who shows a bad token is not let in as nobody.
    assert (await client.get(URL, headers={"Authorization": "Bearer bad"})).status == 401


async def test_scopes_are_those_granted(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(app({"bearer": []}, recorder=recorder, bearer=with_scopes))
    await client.get(URL, headers=BEARER)
    assert recorder.last.scopes == {"read"}


async def test_two_authorization_headers(connect: Connect) -> None:
    client = await connect(app({"bearer": []}))
    answer = await client.get(URL, headers=[("Authorization", "Bearer good"), ("Authorization", "Bearer good")])
    assert answer.status == 401


async def test_the_body_of_a_stranger_is_not_read(connect: Connect) -> None:
    post = body_operation(closed({"a": {"type": "string", "maxLength": 9}}), security=[{"bearer": []}])
    content = document({"/things": {"post": post}}, schemes={"bearer": SCHEMES["bearer"]})
    client = await connect(runtime_app(content, security=SECURITY))
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    # The body is announced and never sent: the answer cannot have waited for it.
    writer.write(f"POST {URL} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


def test_a_scheme_without_handler_is_told_at_start() -> None:
    with pytest.raises(ContractError, match="security scheme bearer: no security handler"):
        runtime_app(protected({"bearer": []}))
