"""Load, then connect with the cursor of the answer: no change is in neither, whatever happens in between."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
import requests

from tests.client import Client, reached
from tests.stack import Stack

EVENTS = "/v1/realtime/events"
SENDERS, TRANSFERS, READERS, READS = 3, 25, 2, 40
PAUSE_S = 0.03  # between what somebody does, at the most: some land in the same moment, some apart


@dataclass(frozen=True)
class Loaded:
    """What a read showed, and the cursor that came with it."""

    transactions: frozenset[str]
    cursor: str


@pytest.fixture
def receiver(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        client.sign_up_and_in()
        yield client


def load(client: Client) -> Loaded:
    answer = client.request("GET", "/v1/wallet/entries", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    found = frozenset(item["transaction_id"] for item in answer.json()["items"])
    return Loaded(found, answer.headers["Realtime-Cursor"])


def opened(client: Client, cursor: str) -> requests.Response:
    """A stream that begins at a cursor, as soon as the server has noticed that enough of ours before it are gone."""

    def ask() -> requests.Response | None:
        headers = {"Last-Event-ID": cursor, "Accept": "text/event-stream"}
        answer = client.request("GET", EVENTS, headers=headers, stream=True)
        if answer.status_code == 429:
            answer.close()
            return None
        assert answer.status_code == 200, answer.text
        return answer

    return reached(ask, what="room for a stream")


def messages(client: Client, cursor: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream that begins at a cursor, by name; it does not end by itself."""
    with opened(client, cursor) as answer:
        name = ""
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def replayed(client: Client, cursor: str) -> list[dict[str, Any]]:
    """The events that were missed since a cursor, all of them."""
    with closing(messages(client, cursor)) as stream:
        name, ready = next(stream)
        assert (name, ready["recovered"]) == ("ready", True), ready
        return [event for _, event in islice(stream, ready["count"])]


def credited(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["transaction_id"] for event in events if event["type"] == "wallet.credited"]


def test_what_commits_after_a_read_arrives_on_a_stream_with_its_cursor(
    stack: Stack, player: Client, paid: object, receiver: Client
) -> None:
    answer = receiver.request("GET", "/v1/wallet/balance")
    assert answer.json()["available"]["amount"] == "0.00"
    sent = player.transfer(receiver.user_id, "1.25")
    with closing(messages(receiver, answer.headers["Realtime-Cursor"])) as stream:
        event = next(data for name, data in stream if name == "wallet.credited")
    assert event["data"]["transaction_id"] == sent["transaction_id"]
    assert event["data"]["balance"]["available"]["amount"] == "1.25"


@pytest.mark.parametrize(
    "path", ["/v1/identity/me", "/v1/wallet/holds", "/v1/payments/deposits/{deposit_id}"], ids=lambda path: path
)
def test_a_cursor_of_any_read_opens_a_stream(player: Client, paid: tuple[dict[str, Any], object], path: str) -> None:
    answer = player.request("GET", path.format(deposit_id=paid[0]["deposit_id"]))
    with closing(messages(player, answer.headers["Realtime-Cursor"])) as stream:
        assert next(stream)[1]["recovered"] is True
    refused = player.request("GET", "/v1/payments/deposits/dep_01m839mc9xf8s92fncqx7w459t")
    assert (refused.status_code, "Realtime-Cursor" in refused.headers) == (404, False)


def test_no_change_is_missing_from_a_read_and_its_replay(
    stack: Stack, player: Client, paid: object, receiver: Client
) -> None:
    seed = secrets.randbits(32)
    print("seed", seed)
    to, token = receiver.user_id, receiver.token

    def send(number: int) -> list[str]:
        pause = random.Random(seed + number)
        with stack.client(token=player.token) as client:
            sent = []
            for _ in range(TRANSFERS):
                time.sleep(pause.uniform(0, PAUSE_S))
                sent.append(str(client.transfer(to, "0.01")["transaction_id"]))
            return sent

    def read(number: int) -> list[Loaded]:
        pause = random.Random(seed - 1 - number)
        with stack.client(token=token) as client:
            loaded = []
            for _ in range(READS):
                time.sleep(pause.uniform(0, PAUSE_S))
                loaded.append(load(client))
            return loaded

    before = load(receiver)
    with ThreadPoolExecutor(SENDERS + READERS) as people:
        reading = [people.submit(read, number) for number in range(READERS)]
        sending = [people.submit(send, number) for number in range(SENDERS)]
        sent = {transaction for done in sending for transaction in done.result()}
        reads = [loaded for done in reading for loaded in done.result()]

    def all_told() -> list[str] | None:
        told = credited(replayed(receiver, before.cursor))
        return told if len(told) >= len(sent) else None

    everything = reached(all_told, what="every event")
    assert sorted(everything) == sorted(sent)
    for loaded in reads:
        told = credited(replayed(receiver, loaded.cursor))
        assert loaded.transactions | set(told) == sent
        assert told == everything[len(everything) - len(told) :]
    # the reads were in between, or this says nothing
    assert len({loaded.cursor for loaded in reads}) > 5
    assert any(set() < loaded.transactions < sent for loaded in reads)
