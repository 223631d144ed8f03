"""The header Realtime-Cursor: read before the handler, on the answers whose contract has it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from contracts.runtime import Call, ContractError, Problem, Reply, RuntimeOptions, lint
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    BASE,
    REFUSED,
    Recorder,
    contract,
    document,
    json_content,
    operation,
    runtime_app,
)

HEADER = {"Realtime-Cursor": {"required": True, "schema": {"type": "string"}}}
ANSWER = {"description": "Done.", "content": json_content({"type": "object"}) | {"text/csv": {}}}


class Events:
    """What a process has seen, and who asked how far that is."""

    def __init__(self) -> None:
        self.seen = 0
        self.asked = 0

    def cursor(self) -> str:
        self.asked += 1
        return f"c{self.seen}"


def telling(**responses: Any) -> dict[str, Any]:
    """A document with one operation that tells the cursor and one, under /plain, that does not."""
    given = {"200": {**ANSWER, "headers": HEADER}, "4XX": REFUSED, **responses}
    return document({"/things": {"get": operation("things", responses=given)}, "/plain": {"get": operation("plain")}})


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def options(events: Events) -> RuntimeOptions:
    return RuntimeOptions(cursor=events.cursor, response_validation="strict", cors_origins=("https://app.example",))


async def test_it_says_what_was_seen_before_the_handler_began(
    connect: Connect, events: Events, options: RuntimeOptions
) -> None:
    async def handler(call: Call) -> Reply:
        events.seen += 1  # an event arrives while the handler reads
        return Reply(200, {})

    client = await connect(runtime_app(telling(), handler, options=options))
    answer = await client.get(f"{BASE}/things", headers={"Origin": "https://app.example"})
    assert (answer.status, answer.headers["Realtime-Cursor"]) == (200, "c0")
    assert "Realtime-Cursor" in answer.headers["Access-Control-Expose-Headers"]
    assert (await client.head(f"{BASE}/things")).headers["Realtime-Cursor"] == "c1"


async def test_an_answer_that_the_handler_makes_itself_carries_it_too(
    connect: Connect, options: RuntimeOptions
) -> None:
    async def streamed(call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        await response.prepare(call.request)
        await response.write_eof(b"a")
        return response

    async def whole(call: Call) -> web.StreamResponse:
        return web.Response(text="a", content_type="text/csv")

    for handler in (streamed, whole):
        client = await connect(runtime_app(telling(), handler, options=options))
        assert (await client.get(f"{BASE}/things")).headers["Realtime-Cursor"] == "c0"


async def test_refusals_and_other_operations_do_not_carry_it(
    connect: Connect, events: Events, options: RuntimeOptions
) -> None:
    refused = Recorder(Problem(status=404, code="thing.unknown", title="No such thing"))
    client = await connect(runtime_app(telling(), {"things": refused, "plain": Recorder()}, options=options))
    for path, status in (("/things", 404), ("/plain", 200)):
        answer = await client.get(f"{BASE}{path}")
        assert (answer.status, answer.headers.get("Realtime-Cursor")) == (status, None)
    assert events.asked == 1  # nobody asks for an operation whose contract does not


def test_a_contract_that_tells_it_needs_somebody_who_knows_it() -> None:
    with pytest.raises(ContractError) as broken:
        runtime_app(telling())
    assert broken.value.faults == ["sample: GET /things: Realtime-Cursor needs RuntimeOptions.cursor"]


def test_all_successful_answers_of_an_operation_tell_it_or_none() -> None:
    fault = "sample: GET /things: Realtime-Cursor is on all successful responses or on none"
    assert lint([contract(telling(**{"202": ANSWER}))]) == [fault]
