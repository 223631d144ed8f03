"""contracts/events.yaml itself: whole, and right about its own examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
import yaml

from contracts.events import Event
from streams.connection import Close
from streams.options import StreamOptions
from streams.schema import CLIENT_OPS, ContractBroken, MessageContract

DOCUMENT: dict[str, Any] = yaml.safe_load(resources.files("contracts").joinpath("events.yaml").read_text("utf-8"))
MESSAGES = DOCUMENT["components"]["messages"]
EVENTS = [name for name in MESSAGES if "." in name]
CONTRACT = MessageContract.load()
USER = "usr_01jd4q2m8sf3x9v7c5b1n0k6tz"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, child in node.items():
            if name == "$ref":
                yield child
            else:
                yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def resolve(reference: str) -> Any:
    assert reference.startswith("#/")
    node: Any = DOCUMENT
    for step in reference[2:].split("/"):
        node = node[step]
    return resolve(node["$ref"]) if isinstance(node, dict) and "$ref" in node else node


def test_every_reference_leads_somewhere() -> None:
    assert all(resolve(reference) is not None for reference in references(DOCUMENT))


@pytest.mark.parametrize("name", MESSAGES)
def test_every_example_is_what_its_message_says(name: str) -> None:
    examples = MESSAGES[name]["examples"]
    assert examples
    for example in examples:
        assert CONTRACT.faults(name, example["payload"]) == []


@pytest.mark.parametrize("name", MESSAGES)
def test_no_message_takes_an_unknown_member(name: str) -> None:
    payload = {**MESSAGES[name]["examples"][0]["payload"], "surprise": 1}
    assert "unknown" in {fault.rule for fault in CONTRACT.faults(name, payload)}


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_flows_on_a_channel_and_on_both_transports(name: str) -> None:
    domain = [channel for key, channel in DOCUMENT["channels"].items() if key not in ("websocket", "eventStream")]
    assert any(name in channel["messages"] for channel in domain)
    assert name in DOCUMENT["channels"]["eventStream"]["messages"]
    alternatives = MESSAGES["event"]["payload"]["properties"]["event"]["oneOf"]
    assert {"$ref": f"#/components/messages/{name}/payload"} in alternatives


def test_operations_use_messages_of_their_own_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            prefix = part["channel"]["$ref"] + "/messages/"
            assert all(message["$ref"].startswith(prefix) for message in part.get("messages", ()))


def test_client_messages_are_those_that_the_server_receives() -> None:
    received = {
        message["$ref"].rsplit("/", 1)[1]
        for operation in DOCUMENT["operations"].values() if operation["action"] == "receive"
        for message in operation["messages"]
    }  # fmt: skip
    assert received == CLIENT_OPS


def test_every_close_code_is_documented() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    codes = {close for close in Close if close is not Close.NORMAL}
    assert set(schemas["CloseCode"]["enum"]) == {int(close) for close in codes}
    assert set(schemas["CloseReason"]["enum"]) == {close.reason for close in codes}
    assert all(f"| {int(close)} |" in DOCUMENT["info"]["description"] for close in codes)


def test_numbers_in_the_contract_are_those_of_the_options() -> None:
    options = StreamOptions()
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Channels"]["maxItems"] == schemas["Refused"]["maxItems"] == options.max_channels
    assert schemas["RecoveredCount"]["maximum"] == options.replay_events
    assert f"more\nthan {options.replay_events} events" in DOCUMENT["info"]["description"]
    socket = DOCUMENT["channels"]["websocket"]["description"]
    assert f"at most {options.max_message_bytes // 1024} KiB" in socket
    assert f"at most {options.message_limit} in {options.message_window_s:.0f} seconds" in socket


def test_an_event_that_nobody_described_is_refused() -> None:
    with pytest.raises(ContractBroken, match=r"no message wallet\.emptied"):
        CONTRACT.check_event(Event("wallet.emptied", USER, (f"wallet:{USER}",), {}))


def test_an_event_with_the_wrong_data_is_refused() -> None:
    right = Event("user.signed_up", USER, (f"user:{USER}",), {"user_id": USER, "verified_at": "2026-11-22T09:30:00Z"})
    CONTRACT.check_event(right)
    for data in ({"user_id": USER}, {**right.data, "phone": "+910000000000"}, {**right.data, "verified_at": "today"}):
        with pytest.raises(ContractBroken):
            CONTRACT.check_event(dataclasses.replace(right, data=data))


def test_an_amount_that_is_a_number_is_refused() -> None:
    paid = MESSAGES["deposit.paid"]["examples"][0]["payload"]
    wrong = {**paid, "data": {**paid["data"], "amount": {"amount": 500.0, "currency": "INR"}}}
    assert {fault.pointer for fault in CONTRACT.faults("deposit.paid", wrong)} == {"#/data/amount/amount"}
