"""Answers against the contract: by status, media type, schema and required headers."""

from __future__ import annotations

import logging
from typing import Any, Literal

import pytest
from aiohttp import web

from contracts.runtime import Problem, Reply, RuntimeOptions
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import BASE, REFUSED, Recorder, document, json_content, operation, runtime_app

URL = f"{BASE}/things"
ITEM = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def answering(**responses: Any) -> dict[str, Any]:
    """A document whose operation documents what is given, by status with a leading underscore."""
    given = {status.lstrip("_"): response for status, response in responses.items()}
    return document({"/things": {"get": operation(responses=given)}})


def described(schema: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return {"description": "Done."} | ({"content": json_content(schema, {"n": 1})} if schema else {}) | members


OK = answering(
    _200=described(ITEM),
    _201=described(
        ITEM,
        headers={
            name: {"required": True, "schema": {"type": "string"}} for name in ("Location", "X-Request-ID", "traceparent")
        },
    ),
    _204=described(),
    _404=REFUSED,
    _4XX={"description": "Refused.", "content": {"application/problem+json": {"schema": {"type": "object", "required": ["extra"]}}}},
)  # fmt: skip


async def violations_of(connect: Connect, content: dict[str, Any], answer: Any, status: int) -> list[str]:
    violations: list[str] = []
    options = RuntimeOptions(response_validation="strict", response_violations=violations)
    client = await connect(runtime_app(content, Recorder(answer), options=options))
    assert (await client.get(URL)).status == status
    return violations


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, {"n": 1}),
        Reply(200, {"n": 1}, {"Content-Type": "application/json; charset=utf-8"}),
        Reply(201, {"n": 1}, {"location": "/x"}),
        Reply(204),
        Problem(status=404, code="a.b", title="No"),
        Problem(status=409, code="a.b", title="No", extra={"extra": 1}),
    ],
)
async def test_right_answers(connect: Connect, answer: Any) -> None:
    assert await violations_of(connect, OK, answer, answer.status) == []


@pytest.mark.parametrize(
    ("answer", "violation"),
    [
        (Reply(202, {"n": 1}), "sample 202: the status is not documented"),
        (Reply(200, {"n": "secret"}), "sample 200: #/n type: must be of type integer"),
        (Reply(200, {}), "sample 200: #/n required: is required"),
        (Reply(200), "sample 200: a body is documented and none was sent"),
        (Reply(204, {"n": 1}), "sample 204: the media type application/json is not documented"),
        (Reply(201, {"n": 1}), "sample 201: the header Location is required"),
        (
            Reply(200, {"n": 1}, {"Content-Type": "text/plain"}),
            "sample 200: the media type text/plain is not documented",
        ),
        (Problem(status=503, code="a.b", title="No"), "sample 503: the status is not documented"),
        (Problem(status=409, code="a.b", title="No"), "sample 409: #/extra required: is required"),
    ],
)
async def test_wrong_answers_become_500_and_are_kept(connect: Connect, answer: Any, violation: str) -> None:
    assert await violations_of(connect, OK, answer, 500) == [violation]


async def test_default_covers_every_other_status(connect: Connect) -> None:
    content = answering(_200=described(ITEM), default=REFUSED)
    assert await violations_of(connect, content, Problem(status=503, code="a.b", title="No"), 503) == []


async def test_faults_of_requests_are_answers_too(connect: Connect) -> None:
    content = answering(_200=described(ITEM), _404=REFUSED)
    violations: list[str] = []
    options = RuntimeOptions(response_validation="strict", response_violations=violations)
    client = await connect(runtime_app(content, options=options))
    assert (await client.get(f"{URL}?x=1")).status == 500
    assert violations == ["sample 400: the status is not documented"]


async def test_json_made_by_the_handler_is_looked_at(connect: Connect) -> None:
    violations: list[str] = []
    options = RuntimeOptions(response_validation="strict", response_violations=violations)
    client = await connect(runtime_app(OK, _json_response, options=options))
    assert (await client.get(URL)).status == 500
    assert violations == ["sample 200: #/n type: must be of type integer"]


async def _json_response(call: Any) -> web.Response:
    return web.json_response({"n": "1"})


@pytest.mark.parametrize(("mode", "rate", "count"), [("off", 1.0, 0), ("sampled", 1.0, 1), ("sampled", 0.0, 0)])
async def test_production_modes_never_change_the_answer(
    connect: Connect, mode: Literal["off", "sampled"], rate: float, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    violations: list[str] = []
    options = RuntimeOptions(response_validation=mode, response_sample_rate=rate, response_violations=violations)
    client = await connect(runtime_app(OK, Recorder(Reply(200, {"n": "x"})), options=options))
    with caplog.at_level(logging.ERROR):
        assert (await client.get(URL)).status == 200
    assert len(violations) == count
    assert caplog.messages.count("response breaks the contract") == count
