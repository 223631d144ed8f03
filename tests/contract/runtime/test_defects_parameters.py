"""Rows 7, 8, 10 to 13, 21, 22, 24 and 29 to 31 of the table in contracts/runtime/README.md: values and their faults.

Each test shows the behaviour on connexion 2.15.1 as it comes and then on the runtime.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from yarl import URL as Address

from contracts.runtime import lint
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    BASE,
    Recorder,
    accept_good,
    bare_app,
    body_operation,
    closed,
    contract,
    document,
    operation,
    query,
    runtime_app,
)

# connexion calls what jsonschema and aiohttp deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

URL = f"{BASE}/things"
TEXT = {"type": "string", "maxLength": 20}


def gets(*parameters: dict[str, Any], **members: Any) -> dict[str, Any]:
    return document({"/things": {"get": operation(parameters=list(parameters), **members)}})


def raw(target: str) -> Address:
    """A request target that the client sends as it is written."""
    return Address(target, encoded=True)


class Seen:
    """A connexion handler that keeps its keyword arguments."""

    def __init__(self) -> None:
        self.arguments: list[dict[str, Any]] = []

    def handler(self) -> Any:
        async def handle(**kwargs: Any) -> Any:
            self.arguments.append(kwargs)
            return {}, 200

        return handle


async def test_d07_query_is_decoded_once(connect: Connect) -> None:
    content = gets(query("s", TEXT))
    seen, recorder = Seen(), Recorder()
    bare = await connect(bare_app(content, seen.handler()))
    client = await connect(runtime_app(content, recorder))
    for each in (bare, client):
        assert (await each.get(raw(f"{URL}?s=%2541"))).status == 200
    assert seen.arguments == [{"s": "A"}]
    assert recorder.last.query == {"s": "%41"}


async def test_d08_blank_values_are_values(connect: Connect) -> None:
    content = gets(query("s", {**TEXT, "minLength": 1}), query("t", TEXT, required=True))
    seen, recorder = Seen(), Recorder()
    bare = await connect(bare_app(content, seen.handler()))
    assert (await bare.get(f"{URL}?s=&t=x")).status == 200
    assert (await bare.get(f"{URL}?t=")).status == 400

    client = await connect(runtime_app(content, recorder))
    answer = await client.get(f"{URL}?s=&t=x")
    assert answer.status == 400
    assert [(e["pointer"], e["rule"]) for e in (await answer.json())["errors"]] == [("#/query/s", "minLength")]
    assert (await client.get(f"{URL}?t=")).status == 200
    assert recorder.last.query == {"t": ""}


@pytest.mark.parametrize(
    ("format_", "good", "wrong"),
    [
        ("uuid", "3f1c9a52-7f64-4f0e-9d0b-2f4f8f2a1c77", "x"),
        ("date", "2026-02-28", "2026-02-30"),
        ("date", "2024-02-29", "٢٠٢٤-02-29"),
        ("date-time", "2026-02-28T10:00:00Z", "2026-02-28T10:00:00"),
        ("uri", "https://a.example/x", "no uri"),
    ],
)
async def test_d10_formats_are_checked(connect: Connect, format_: str, good: str, wrong: str) -> None:
    content = gets(query("s", {"type": "string", "format": format_, "maxLength": 60}))
    bare = await connect(bare_app(content))
    assert (await bare.get(URL, params={"s": wrong})).status == 200

    client = await connect(runtime_app(content))
    assert (await client.get(URL, params={"s": good})).status == 200
    answer = await client.get(URL, params={"s": wrong})
    assert answer.status == 400
    assert (await answer.json())["errors"][0]["rule"] == "format"


@pytest.mark.parametrize("text", ["1_000", " 1 ", "٣", "+1", "01"])
async def test_d11_integers_are_ascii_digits(connect: Connect, text: str) -> None:
    content = gets(query("n", {"type": "integer", "minimum": 0, "maximum": 2000}))
    bare = await connect(bare_app(content))
    client = await connect(runtime_app(content))
    assert [(await each.get(URL, params={"n": text})).status for each in (bare, client)] == [200, 400]


@pytest.mark.parametrize("text", ["nan", "inf", "1_0.5"])
async def test_d11_numbers_are_json_numbers(connect: Connect, text: str) -> None:
    content = gets(query("n", {"type": "number"}))
    bare = await connect(bare_app(content))
    assert (await bare.get(URL, params={"n": text})).status == 200

    bounded = gets(query("n", {"type": "number", "minimum": -1e9, "maximum": 1e9}))
    client = await connect(runtime_app(bounded))
    assert (await client.get(URL, params={"n": text})).status == 400


@pytest.mark.parametrize(
    "parameter",
    [
        query("s", {"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        query("s", {"allOf": [{"type": "string"}]}),
        query("s", {"enum": ["a"]}),
        {"name": "s", "in": "query", "content": {"application/json": {"schema": {"type": "string"}}}},
    ],
    ids=["oneOf", "allOf", "no type", "content"],
)
async def test_d12_parameters_without_a_plain_type_are_refused_by_the_lint(
    connect: Connect, parameter: dict[str, Any]
) -> None:
    bare = await connect(bare_app(gets(parameter)))
    assert (await bare.get(f"{URL}?s=a")).status == 500

    assert any("parameter s: needs a" in fault for fault in lint([contract(gets(parameter))]))


async def test_d13_operation_parameter_overrides_that_of_the_path(connect: Connect) -> None:
    content = gets(query("s", {**TEXT, "maxLength": 5}))
    content["paths"]["/things"]["parameters"] = [query("s", {**TEXT, "maxLength": 1})]
    bare = await connect(bare_app(content))
    client = await connect(runtime_app(content))
    assert [(await each.get(f"{URL}?s=abc")).status for each in (bare, client)] == [400, 200]


async def test_d21_header_and_cookie_parameters_arrive(connect: Connect) -> None:
    integer = {"type": "integer", "minimum": 0, "maximum": 9}
    content = gets(
        {"name": "X-Level", "in": "header", "schema": integer}, {"name": "theme", "in": "cookie", "schema": TEXT}
    )
    seen, recorder = Seen(), Recorder()
    bare = await connect(bare_app(content, seen.handler()))
    client = await connect(runtime_app(content, recorder))
    for each in (bare, client):
        assert (await each.get(URL, headers={"x-level": "7", "Cookie": "theme=dark"})).status == 200
    assert seen.arguments == [{}]
    assert recorder.last.headers == {"X-Level": 7}
    assert recorder.last.cookies == {"theme": "dark"}


async def test_d22_api_key_in_the_query(connect: Connect) -> None:
    scheme = {"type": "apiKey", "in": "query", "name": "key"}
    content = document({"/things": {"get": operation(security=[{"key": []}])}}, schemes={"key": scheme})
    with_function = document(
        {"/things": {"get": operation(security=[{"key": []}])}},
        schemes={"key": scheme | {"x-apikeyInfoFunc": f"{__name__}.connexion_key"}},
    )
    bare = await connect(bare_app(with_function))
    assert (await bare.get(f"{URL}?key=good")).status == 401

    recorder = Recorder()
    client = await connect(runtime_app(content, recorder, security={"key": accept_good}))
    assert (await client.get(f"{URL}?key=good")).status == 200
    assert recorder.last.principal == "principal"
    assert (await client.get(f"{URL}?key=bad")).status == 401
    assert (await client.get(URL)).status == 401


def connexion_key(apikey: Any, required_scopes: Any = None) -> dict[str, str] | None:
    return {"sub": "somebody"} if apikey == "good" else None


async def test_d24_path_parameters_of_any_name_and_no_route_collisions(connect: Connect) -> None:
    def path_parameter(name: str) -> dict[str, Any]:
        return {"name": name, "in": "path", "required": True, "schema": TEXT}

    content = document(
        {
            "/o/{order-id}": {"get": operation("one", parameters=[path_parameter("order-id")])},
            "/pay-outs": {"get": operation("two")},
            "/pay/outs": {"get": operation("three")},
            "/o/{id}:cancel": {"post": operation("four", parameters=[path_parameter("id")])},
            "/o/{id}/cancel": {"post": operation("five", parameters=[path_parameter("id")])},
        }
    )
    with pytest.raises(ValueError, match="Invalid path"):
        bare_app(document({"/o/{order-id}": content["paths"]["/o/{order-id}"]}))
    with pytest.raises(ValueError, match="Duplicate"):
        bare_app(document({path: content["paths"][path] for path in ("/pay-outs", "/pay/outs")}))
    with pytest.raises(ValueError, match="Duplicate"):
        bare_app(document({path: content["paths"][path] for path in ("/o/{id}:cancel", "/o/{id}/cancel")}))

    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    for method, path in (
        ("GET", "/o/7"), ("GET", "/pay-outs"), ("GET", "/pay/outs"), ("POST", "/o/7:cancel"), ("POST", "/o/7/cancel")
    ):  # fmt: skip
        assert (await client.request(method, BASE + path)).status == 200
    assert [call.operation_id for call in recorder.calls] == ["one", "two", "three", "four", "five"]
    assert [call.path for call in recorder.calls] == [{"order-id": "7"}, {}, {}, {"id": "7"}, {"id": "7"}]


async def test_d29_nullable_reference(connect: Connect) -> None:
    schemas = {"Place": closed({"city": TEXT}, "city")}
    wrapped = {"nullable": True, "allOf": [{"$ref": "#/components/schemas/Place"}]}
    operation_ = body_operation(closed({"place": wrapped}))
    content = document({"/things": {"post": operation_}}, schemas=schemas)
    bare = await connect(bare_app(content))
    client = await connect(runtime_app(content))
    assert [(await each.post(URL, json={"place": None})).status for each in (bare, client)] == [400, 200]
    answer = await client.post(URL, json={"place": {"city": 1}})
    assert [e["pointer"] for e in (await answer.json())["errors"]] == ["#/body/place/city"]


async def test_d30_discriminator_picks_the_branch(connect: Connect) -> None:
    kinds = {
        name: closed({"kind": {"type": "string", "enum": [value]}, **extra}, "kind", *extra)
        for name, value, extra in (
            ("Card", "card", {"number": TEXT}),
            ("Upi", "upi", {"vpa": {"type": "string", "maxLength": 3}}),
        )
    }
    choice = {
        "oneOf": [{"$ref": "#/components/schemas/Card"}, {"$ref": "#/components/schemas/Upi"}],
        "discriminator": {
            "propertyName": "kind",
            "mapping": {"card": "#/components/schemas/Card", "upi": "#/components/schemas/Upi"},
        },
    }
    example = {"kind": "upi", "vpa": "a@b"}
    content = document({"/things": {"post": body_operation(choice, example)}}, schemas=kinds)
    bare = await connect(bare_app(content))
    answer = await bare.post(URL, json={"kind": "upi", "vpa": "too long"})
    assert "is not valid under any of the given schemas" in (await answer.json())["detail"]

    client = await connect(runtime_app(content))
    assert (await client.post(URL, json=example)).status == 200
    answer = await client.post(URL, json={"kind": "upi", "vpa": "too long"})
    assert [(e["pointer"], e["rule"]) for e in (await answer.json())["errors"]] == [("#/body/vpa", "maxLength")]
    for wrong, fault in (({"vpa": "a"}, "required"), ({"kind": "cash"}, "enum")):
        answer = await client.post(URL, json=wrong)
        assert [(e["pointer"], e["rule"]) for e in (await answer.json())["errors"]] == [("#/body/kind", fault)]


async def test_d31_every_fault_is_told_and_no_value(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    schema = closed({"a": {"type": "string", "maxLength": 3}, "b": {"type": "string", "maxLength": 3}})
    content = document({"/things": {"post": body_operation(schema, parameters=[query("q", {**TEXT, "maxLength": 3})])}})
    bare = await connect(bare_app(content))
    with caplog.at_level(logging.INFO):
        answer = await bare.post(f"{URL}?q=secret1", json={"a": "secret2", "b": "secret3"})
    assert ("secret2" in await answer.text(), "secret3" in await answer.text()) == (True, False)
    assert any(record.levelno == logging.ERROR for record in caplog.records)

    caplog.clear()
    client = await connect(runtime_app(content))
    with caplog.at_level(logging.INFO):
        answer = await client.post(f"{URL}?q=secret1", json={"a": "secret2", "b": "secret3", "c": "secret4"})
    assert "secret" not in await answer.text()
    assert {(e["pointer"], e["rule"]) for e in (await answer.json())["errors"]} == {
        ("#/query/q", "maxLength"), ("#/body/a", "maxLength"), ("#/body/b", "maxLength"), ("#/body/c", "unknown"),
    }  # fmt: skip
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
