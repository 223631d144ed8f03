"""contracts/events.yaml is a good AsyncAPI 3 document by its own schema and by our rules, and REST reads lead into it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from contracts.asyncapi import EventsDocument
from contracts.runtime import load_contracts
from matchday.wiring import CONTRACTS, SLICES
from streams.connection import Close
from tests.contract.events_lint import faults

DOCUMENT = EventsDocument.load(CONTRACTS / "events.yaml")
Content = dict[str, Any]


def test_the_document_is_asyncapi(node_modules: Path) -> None:
    version = DOCUMENT.content["asyncapi"]
    schema = json.loads((node_modules / f"@asyncapi/specs/schemas/{version}-without-$id.json").read_text("utf-8"))
    validator = jsonschema_rs.Draft7Validator(schema)
    assert [f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(DOCUMENT.content)] == []
    broken = {**DOCUMENT.content, "channels": {"user": {"adress": "user"}}}
    assert not validator.is_valid(broken)


def test_the_document_keeps_our_rules() -> None:
    assert faults(DOCUMENT) == []


def a_string_without_an_end(content: Content) -> None:
    content["components"]["schemas"]["UserId"] = {"type": "string", "pattern": "^usr_[0-9a-z]+$"}


def an_array_without_an_end(content: Content) -> None:
    del content["components"]["schemas"]["Channels"]["maxItems"]


def an_open_object(content: Content) -> None:
    del content["components"]["schemas"]["Money"]["additionalProperties"]


def a_message_that_nobody_sends(content: Content) -> None:
    content["components"]["messages"]["lost"] = content["components"]["messages"]["ping"]


def a_schema_that_nobody_uses(content: Content) -> None:
    content["components"]["schemas"]["Lost"] = {"type": "boolean"}


def a_message_that_its_channel_does_not_list(content: Content) -> None:
    del content["channels"]["websocket"]["messages"]["pong"]
    content["operations"]["pingServer"]["reply"]["messages"] = [{"$ref": "#/components/messages/pong"}]


def a_message_without_an_operation(content: Content) -> None:
    content["operations"]["pingServer"]["reply"]["messages"] = []


def a_message_under_another_name(content: Content) -> None:
    content["channels"]["user"]["messages"]["user.vanished"] = content["channels"]["user"]["messages"].pop(
        "user.signed_up"
    )


def a_topic_with_what_is_no_event(content: Content) -> None:
    content["channels"]["user"]["messages"]["ping"] = {"$ref": "#/components/messages/ping"}


def security_from_elsewhere(content: Content) -> None:
    content["operations"]["streamEvents"]["security"] = [{"$ref": "#/components/schemas/Ticket"}]


def a_close_code_without_a_name(content: Content) -> None:
    content["components"]["schemas"]["CloseCode"]["enum"].append(4999)


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (a_string_without_an_end, "schemas/UserId: a string without a limit"),
        (an_array_without_an_end, "schemas/Channels: an array without maxItems"),
        (an_open_object, "schemas/Money: an open object"),
        (a_message_that_nobody_sends, "messages/lost: nothing refers to it"),
        (a_schema_that_nobody_uses, "schemas/Lost: nothing refers to it"),
        (a_message_that_its_channel_does_not_list, "channels/websocket: pong is not listed"),
        (a_message_without_an_operation, "channels/websocket: pong is in no operation"),
        (a_message_under_another_name, "channels/user: a message is listed under another name"),
        (a_topic_with_what_is_no_event, "channels/user: ping is no event"),
        (security_from_elsewhere, "operations/streamEvents: security that is not declared"),
        (a_close_code_without_a_name, "schemas/CloseCode: x-enum-varnames does not name each value once"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_each_rule_finds_what_it_is_for(break_it: Callable[[Content], None], fault: str) -> None:
    broken = EventsDocument(DOCUMENT.source)
    broken.content = copy.deepcopy(broken.content)
    break_it(broken.content)
    assert faults(broken) == [fault]


def test_names_of_close_codes_are_those_that_the_server_uses() -> None:
    schema = DOCUMENT.content["components"]["schemas"]["CloseCode"]
    named = dict(zip(schema["x-enum-varnames"], schema["enum"], strict=True))
    assert named == {close.reason: int(close) for close in Close if close is not Close.NORMAL}


def test_every_read_of_a_user_tells_the_cursor_from_before() -> None:
    header = "Realtime-Cursor"
    for contract in load_contracts(CONTRACTS, [name for name in SLICES if name != "realtime"]):
        for method, path, operation in contract.operations():
            answer = contract.resolve(operation["responses"].get("200", {}))
            is_read = method == "get" and operation["security"] and "application/json" in answer.get("content", {})
            assert (header in answer.get("headers", {})) == bool(is_read), f"{method} {contract.base_path}{path}"
