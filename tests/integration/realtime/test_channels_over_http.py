"""Presence over REST, a deposit's channel, and desks given out by command: the whole product, as people use it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from contracts import ids
from matchday import cli
from matchday.home import Home
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.client import Client, reached, refused
from tests.stack import Stack, running

PRESENCE = "/v1/realtime/presence"
DESK = "back_office:support"


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with running(postgres, valkey, tmp_path_factory.mktemp("channels")) as stack:
        yield stack


@pytest.fixture
def person(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        client.sign_up_and_in()
        yield client


@pytest.fixture
def command(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `matchday channels …` against the stack's database; what it said, or why it ended."""
    environment = {"DATABASE_URL": stack.config.database_url, "REDIS_URL": stack.config.redis_url}
    for name, value in Home(tmp_path).environment(environment).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        out = io.StringIO()
        with redirect_stdout(out):
            try:
                cli.main(["channels", *arguments])
            except SystemExit as ended:
                return str(ended.code)
        return out.getvalue()

    return run


def blocks_of(client: Client, **query: str) -> Any:
    """An event stream, as (event, data) pairs; closing it ends the stream."""
    response = client.request("GET", "/v1/realtime/events", params=query, stream=True)
    assert response.status_code == 200, response.text
    event = ""
    try:
        for line in response.iter_lines(decode_unicode=True):
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                yield event, json.loads(line[6:])
    finally:
        response.close()


def test_a_desk_is_given_listed_used_and_taken_away(stack: Stack, person: Client, command: Any) -> None:
    me = person.user_id
    refused(person.request("GET", PRESENCE, params={"channel": DESK}), 403, "auth.forbidden")
    assert command("grant", DESK, me) == f"{me} is now a member of {DESK}\n"
    assert command("grant", DESK, me) == f"{me} was already a member of {DESK}\n"
    assert command("list", DESK).split("  since ")[0] == me
    assert command("list", me).split("  since ")[0] == DESK

    nobody = {"channel": DESK, "count": 0, "members": [], "truncated": False}
    assert person.call("GET", PRESENCE, expect=200, params={"channel": DESK}) == nobody
    with stack.client(token=person.token) as watcher, closing(blocks_of(watcher, channels=DESK)) as blocks:
        assert next(blocks)[1]["channels"] == [DESK]
        assert next(blocks) == ("presence", {"channel": DESK, "count": 1, "members": [me]})
        there = person.call("GET", PRESENCE, expect=200, params={"channel": DESK})
        assert there == {"channel": DESK, "count": 1, "members": [me], "truncated": False}
        assert command("withdraw", DESK, me) == f"{me} is no longer a member of {DESK}\n"
        assert next(blocks) == ("unsubscribed", {"channels": [DESK], "reason": "forbidden"})
    refused(person.request("GET", PRESENCE, params={"channel": DESK}), 403, "auth.forbidden")
    assert command("withdraw", DESK, me) == f"{me} was not a member of {DESK}\n"
    assert command("list", me) == command("list", DESK) == ""


def test_a_command_with_a_fault_says_it(stack: Stack, person: Client, command: Any) -> None:
    stranger = ids.new("usr")
    assert command("grant", DESK, stranger) == f"matchday: there is no user {stranger}"
    wallet = f"wallet:{person.user_id}"
    assert command("grant", wallet, person.user_id) == f"matchday: {wallet} is no channel that has members"
    assert command("list", "back_office:kitchen") == "matchday: back_office:kitchen is no channel that has members"


def test_presence_is_refused_for_what_does_not_tell(person: Client) -> None:
    for channel in (f"wallet:{person.user_id}", "back_office:kitchen", "pitch:1", f"payment:{ids.new('dep')}"):
        refused(person.request("GET", PRESENCE, params={"channel": channel}), 404, "realtime.no_presence")
    refused(person.request("GET", PRESENCE), 400, "contract.parameter", ("#/query/channel", "required"))


def test_presence_is_not_for_strangers(stack: Stack) -> None:
    with stack.client() as stranger:
        refused(stranger.request("GET", PRESENCE, params={"channel": DESK}), 401, "auth.missing")


def test_a_deposit_is_followed_by_whoever_started_it_and_nobody_else(stack: Stack, person: Client) -> None:
    deposit = person.start_deposit()
    channel = f"payment:{deposit['deposit_id']}"
    with stack.client() as other, stack.client(token=person.token) as watcher:
        other.sign_up_and_in()
        with closing(blocks_of(other, channels=channel)) as blocks:
            assert next(blocks)[1]["refused"] == [channel]
        with closing(blocks_of(watcher, channels=channel)) as blocks:
            assert next(blocks)[1]["channels"] == [channel]
            person.pay(deposit)
            assert next(blocks)[0] == "deposit.paid"


def test_a_user_opens_twenty_streams_and_no_more(stack: Stack, person: Client) -> None:
    streams = []
    try:
        for _ in range(20):
            client = stack.client(token=person.token)
            blocks = blocks_of(client)
            assert next(blocks)[0] == "ready"
            streams.append((client, blocks))
        refused(person.request("GET", "/v1/realtime/events"), 429, "realtime.too_many_streams")
    finally:
        for client, blocks in streams:
            blocks.close()
            client.close()
    reached(lambda: person.request("GET", "/v1/realtime/events", stream=True).status_code == 200, what="a free place")
