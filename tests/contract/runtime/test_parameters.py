"""Parameters: every way to write one that is right, and that only those are."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL as Address

from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import BASE, Recorder, document, operation, query, runtime_app

URL = f"{BASE}/things"
COLOR = {"type": "string", "enum": ["red", "blue"]}
COLORS = {"type": "array", "minItems": 1, "maxItems": 3, "items": COLOR}
NUMBERS = {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "integer", "minimum": 0, "maximum": 9}}
TEXT = {"type": "string", "maxLength": 20}
INTEGER = {"type": "integer", "format": "int64"}


def gets(*parameters: dict[str, Any], path: str = "/things") -> dict[str, Any]:
    return document({path: {"get": operation(parameters=list(parameters))}})


async def faults(answer: Any) -> list[tuple[str, str]]:
    assert answer.status == 400, await answer.text()
    return [(e["pointer"], e["rule"]) for e in (await answer.json())["errors"]]


def target(text: str) -> Address:
    return Address(f"{URL}?{text}", encoded=True)


@pytest.mark.parametrize(
    ("parameter", "written", "value"),
    [
        (query("v", INTEGER), "v=-0", 0),
        (query("v", INTEGER), "v=0", 0),
        (query("v", INTEGER), "v=9223372036854775807", 2**63 - 1),
        (query("v", INTEGER), "v=-9223372036854775808", -(2**63)),
        (query("v", {"type": "number", "minimum": -9, "maximum": 9}), "v=1.50", 1.5),
        (query("v", {"type": "number", "minimum": -9, "maximum": 9}), "v=2", 2),
        (query("v", {"type": "number", "minimum": -9, "maximum": 99}), "v=1e1", 10.0),
        (query("v", {"type": "boolean"}), "v=true", True),
        (query("v", {"type": "boolean"}), "v=false", False),
        (query("v", TEXT), "v=a+b%20c%2B", "a b c+"),
        (query("v", TEXT), "v=%E2%82%B9", "₹"),
        (query("v", TEXT), "v=a=b", "a=b"),
        (query("v", TEXT), "v", ""),
        (query("v", TEXT), "&v=a&", "a"),
        (query("v", TEXT), "%76=a", "a"),
        (query("v", COLORS), "v=red&v=blue", ["red", "blue"]),
        (query("v", COLORS, explode=False), "v=red,blue", ["red", "blue"]),
        (query("v", NUMBERS, explode=False), "v=1", [1]),
        (query("v", NUMBERS), "v=1&v=2", [1, 2]),
        (query("v", {**INTEGER, "default": 7}), "", 7),
        (query("v", {**NUMBERS, "default": [1]}), "", [1]),
    ],
)
async def test_values(connect: Connect, parameter: dict[str, Any], written: str, value: Any) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(gets(parameter), recorder))
    answer = await client.get(target(written))
    assert answer.status == 200, await answer.text()
    assert recorder.last.query == {"v": value}
    assert type(recorder.last.query["v"]) is type(value)


@pytest.mark.parametrize(
    ("parameter", "written", "expected"),
    [
        (query("v", INTEGER), "v=9223372036854775808", [("#/query/v", "type")]),
        (query("v", INTEGER), "v=%D9%A3", [("#/query/v", "type")]),
        (query("v", INTEGER), "v=1.0", [("#/query/v", "type")]),
        (query("v", INTEGER), "v=", [("#/query/v", "type")]),
        (query("v", INTEGER), "v=" + "9" * 5000, [("#/query/v", "type")]),
        (query("v", {"type": "number", "minimum": 0, "maximum": 9}), "v=1e999", [("#/query/v", "type")]),
        (query("v", {"type": "number", "minimum": 0, "maximum": 9}), "v=.5", [("#/query/v", "type")]),
        (query("v", {"type": "boolean"}), "v=True", [("#/query/v", "type")]),
        (query("v", {"type": "boolean"}), "v=1", [("#/query/v", "type")]),
        (query("v", TEXT), "v=a&v=b", [("#/query/v", "repeated")]),
        (query("v", COLORS, explode=False), "v=red&v=blue", [("#/query/v", "repeated")]),
        (query("v", COLORS), "v=red&v=green", [("#/query/v/1", "enum")]),
        (query("v", NUMBERS), "v=1&v=x&v=y", [("#/query/v/1", "type"), ("#/query/v/2", "type")]),
        (query("v", NUMBERS, explode=False), "v=1,,2", [("#/query/v/1", "type")]),
        (query("v", TEXT), "v=%00", [("#/query/v", "nul")]),
        (query("v", TEXT), "v=%zz", [("#/query/v", "encoding")]),
        (query("v", TEXT), "v=%ff", [("#/query/v", "encoding")]),
        (query("v", TEXT), "w=1", [("#/query/w", "unknown")]),
        (query("v", TEXT), "w=", [("#/query/w", "unknown")]),
        (query("v", TEXT), "=1", [("#/query/", "unknown")]),
        (query("v", TEXT, required=True), "", [("#/query/v", "required")]),
        (query("v", INTEGER), "v=%ff", [("#/query/v", "encoding")]),
    ],
)
async def test_faults(
    connect: Connect, parameter: dict[str, Any], written: str, expected: list[tuple[str, str]]
) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(gets(parameter), recorder))
    assert await faults(await client.get(target(written))) == expected
    assert recorder.calls == []


async def test_all_places_are_told_together(connect: Connect) -> None:
    content = gets(
        {"name": "id", "in": "path", "required": True, "schema": INTEGER},
        query("q", INTEGER),
        {"name": "X-Level", "in": "header", "required": True, "schema": INTEGER},
        {"name": "theme", "in": "cookie", "required": True, "schema": COLOR},
        path="/things/{id}",
    )
    client = await connect(runtime_app(content))
    answer = await client.get(f"{URL}/x?q=x&w=1", headers={"X-Level": "x", "Cookie": "theme=green"})
    assert set(await faults(answer)) == {
        ("#/path/id", "type"), ("#/query/q", "type"), ("#/query/w", "unknown"), ("#/header/X-Level", "type"),
        ("#/cookie/theme", "enum"),
    }  # fmt: skip
    assert (await answer.json())["code"] == "contract.parameter"
    assert set(await faults(await client.get(f"{URL}/1"))) == {
        ("#/header/X-Level", "required"), ("#/cookie/theme", "required"),
    }  # fmt: skip


async def test_repeated_header_of_one_value(connect: Connect) -> None:
    content = gets({"name": "X-Level", "in": "header", "schema": INTEGER})
    client = await connect(runtime_app(content))
    answer = await client.get(URL, headers=[("X-Level", "1"), ("X-Level", "2")])
    assert await faults(answer) == [("#/header/X-Level", "repeated")]


async def test_header_array(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(gets({"name": "X-Levels", "in": "header", "schema": NUMBERS}), recorder))
    assert (await client.get(URL, headers={"X-Levels": "1,2"})).status == 200
    assert recorder.last.headers == {"X-Levels": [1, 2]}


@pytest.mark.parametrize(
    ("written", "value"), [("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%E2%82%B9", "₹"), ("a+b", "a+b"), ("%2541", "%41")]
)
async def test_path_is_decoded_once(connect: Connect, written: str, value: str) -> None:
    recorder = Recorder()
    content = gets({"name": "id", "in": "path", "required": True, "schema": TEXT}, path="/things/{id}")
    client = await connect(runtime_app(content, recorder))
    assert (await client.get(Address(f"{URL}/{written}", encoded=True))).status == 200
    assert recorder.last.path == {"id": value}


async def test_the_more_literal_path_wins(connect: Connect) -> None:
    parameter = {"name": "id", "in": "path", "required": True, "schema": TEXT}
    content = document(
        {
            "/things/{id}": {"get": operation("one", parameters=[parameter])},
            "/things/{id}:close": {"get": operation("close", parameters=[parameter])},
            "/things/search": {"get": operation("search")},
            "/{id}/search": {"get": operation("other", parameters=[parameter])},
        }
    )
    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    for path in ("/things/7", "/things/7:close", "/things/search", "/people/search"):
        assert (await client.get(BASE + path)).status == 200
    assert [call.operation_id for call in recorder.calls] == ["one", "close", "search", "other"]


async def test_a_default_list_belongs_to_one_request(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(gets(query("v", {**NUMBERS, "default": [1]})), recorder))
    await client.get(URL)
    recorder.last.query["v"].append(2)
    await client.get(URL)
    assert recorder.last.query == {"v": [1]}


async def test_the_number_of_faults_is_bounded(connect: Connect) -> None:
    client = await connect(runtime_app(gets()))
    answer = await client.get(target("&".join(f"p{number}=" for number in range(500))))
    assert len(await faults(answer)) == 100
