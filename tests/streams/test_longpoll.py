"""Long polling: the same events, the same cursor, the same rights, one answer at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from streams import log
from streams.connection import Close
from streams.relay import Relay
from tests.client import reached as until
from tests.client import refused
from tests.stack import running
from tests.streams.harness import (
    FAST,
    Node,
    People,
    SseClient,
    emit,
    reached,
    relaying,
    serving,
    settled,
    signed_up,
)

HOUR_S = 3600.0  # longer than any test, so that what answers is an event


async def asked(node: Node, token: str = "", *, status: int = 200, **query: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with node.session.get(node.url("/poll"), headers=headers, params=query) as response:
        assert response.status == status, await response.text()
        return dict(await response.json())


def ids_of(answer: dict[str, Any]) -> list[str]:
    return [event["id"] for event in answer["events"]]


async def caught_up(database: Database, node: Node) -> None:
    last = (await settled(database))[-1].position
    await reached(lambda: node.realtime._hub.position >= last)


async def waiting(node: Node, polls: int = 1) -> None:
    """Return once so many polls wait for an event."""
    await reached(
        lambda: sum(getattr(c, "_heard", None) is not None for c in node.realtime._hub.connections) == polls,
        what="a poll that waits",
    )


async def test_the_first_poll_gives_a_cursor_at_once(node: Node) -> None:
    token, me = node.people.sign_in("payment:a")
    began = time.monotonic()
    answer = await asked(node, token)
    assert time.monotonic() - began < 5
    assert answer == {
        "cursor": node.realtime.cursor, "recovered": False, "reason": "new", "more": False, "events": [],
        "channels": sorted(["payment:a", f"user:{me.user_id}"]), "refused": [],
    }  # fmt: skip
    await reached(lambda: node.realtime.open_streams == 0)


async def test_what_was_missed_comes_at_once_and_byte_for_byte_as_in_a_stream(
    database: Database, relay: Relay, node: Node
) -> None:
    token, me = node.people.sign_in()
    stream = await SseClient.open(node, token)
    first = await asked(node, token)
    missed = await emit(database, *(signed_up(me.user_id) for _ in range(3)))
    await caught_up(database, node)
    answer = await asked(node, token, cursor=first["cursor"], wait_s=HOUR_S)
    assert ids_of(answer) == missed
    assert (answer["recovered"], answer["count"], answer["more"]) == (True, 3, False)
    await reached(lambda: len(stream.events) == 3)
    assert answer["events"] == stream.events
    assert answer["cursor"] == stream.last_event_id
    again = await asked(node, token, cursor=answer["cursor"], wait_s=0)
    assert (again["recovered"], again["count"], again["events"]) == (True, 0, [])
    await stream.close()


async def test_a_poll_waits_for_the_next_event_and_holds_no_connection_to_the_database(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, max_streams_per_user=30)) as node:
        token, me = people.sign_in()
        cursor = (await asked(node, token))["cursor"]
        await reached(lambda: node.realtime.open_streams == 0)
        polls = [asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S)) for _ in range(30)]
        await waiting(node, 30)  # more than the pool has connections
        assert node.realtime.open_streams == 30
        sent = await emit(database, signed_up(me.user_id))
        for poll in polls:
            assert ids_of(await poll) == sent


async def test_what_commits_together_comes_in_one_answer(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in()
    cursor = (await asked(node, token))["cursor"]
    poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
    await waiting(node)
    sent = await emit(database, *(signed_up(me.user_id) for _ in range(20)))
    answer = await poll
    assert (ids_of(answer), answer["count"]) == (sent, 20)


async def test_a_quiet_poll_ends_with_the_newest_cursor(database: Database, relay: Relay, node: Node) -> None:
    token, _ = node.people.sign_in()
    _, other = node.people.sign_in()
    cursor = (await asked(node, token))["cursor"]
    poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=1.0))
    await waiting(node)
    await emit(database, signed_up(other.user_id))
    answer = await poll
    assert (answer["recovered"], answer["count"], answer["events"]) == (True, 0, [])
    assert answer["cursor"] == node.realtime.cursor != cursor


async def test_only_the_channels_that_were_asked_for_and_allowed(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in("payment:a", "payment:b")
    query: dict[str, Any] = {"channels": "payment:a,payment:x,,payment:a"}
    first = await asked(node, token, **query)
    assert (first["channels"], first["refused"]) == (["payment:a"], ["payment:x"])
    events = [signed_up(me.user_id, channels=(f"payment:{name}",)) for name in "bxa"]
    sent = await emit(database, *events)
    answer = await asked(node, token, cursor=first["cursor"], wait_s=HOUR_S, **query)
    assert ids_of(answer) == sent[2:]
    assert (await asked(node, token, channels="x" * 101, status=400))["code"] == "contract.parameter"


async def test_a_right_that_goes_while_a_poll_waits_is_gone(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in("payment:a")
    cursor = (await asked(node, token))["cursor"]
    poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
    await waiting(node)
    node.people.readable[me.user_id].discard("payment:a")
    await emit(database, signed_up(me.user_id, channels=("payment:a",)))
    answer = await poll
    assert (answer["events"], answer["channels"], answer["refused"]) == ([], [f"user:{me.user_id}"], ["payment:a"])
    kept = await emit(database, signed_up(me.user_id))
    assert ids_of(await asked(node, token, cursor=answer["cursor"], wait_s=HOUR_S)) == kept


@pytest.mark.parametrize("reason", ["invalid", "epoch", "expired", "too_many"])
async def test_a_cursor_that_cannot_be_continued_is_answered_at_once_with_the_reason(
    database: Database, redis: Redis, relay: Relay, people: People, reason: str
) -> None:
    async with serving(database, redis, people, replace(FAST, hub_ring=1, replay_events=3, replay_window=5)) as node:
        token, me = people.sign_in()
        _, other = people.sign_in()
        cursor = (await asked(node, token))["cursor"]
        if reason == "invalid":
            cursor = "AAAA"
        elif reason == "epoch":
            async with database.transaction() as conn:
                await log.renew_epoch(conn)
            await node.realtime._hub.refresh()
        else:
            subject = other if reason == "expired" else me
            await emit(database, *(signed_up(subject.user_id) for _ in range(6 if reason == "expired" else 4)))
            await caught_up(database, node)
        answer = await asked(node, token, cursor=cursor, wait_s=HOUR_S)
        assert (answer["recovered"], answer["reason"], answer["events"]) == (False, reason, [])
        sent = await emit(database, signed_up(me.user_id))
        assert ids_of(await asked(node, token, cursor=answer["cursor"], wait_s=HOUR_S)) == sent


async def test_an_answer_takes_as_much_as_a_replay_and_says_that_there_is_more(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, replay_events=4)) as node:
        token, me = people.sign_in()
        cursor = (await asked(node, token))["cursor"]
        poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
        await waiting(node)
        sent = await emit(database, *(signed_up(me.user_id) for _ in range(7)))
        first = await poll
        assert (ids_of(first), first["more"]) == (sent[:4], True)
        rest = await asked(node, token, cursor=first["cursor"], wait_s=HOUR_S)
        assert (ids_of(rest), rest["more"]) == (sent[4:], False)


async def test_an_answer_is_no_larger_than_a_replay_and_holds_one_event_at_least(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, replay_bytes=100)) as node:
        token, me = people.sign_in()
        cursor = (await asked(node, token))["cursor"]
        poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
        await waiting(node)
        sent = await emit(database, *(signed_up(me.user_id) for _ in range(2)))
        answer = await poll
        assert (ids_of(answer), answer["more"]) == (sent[:1], True)


async def test_a_ticket_answers_one_poll(database: Database, relay: Relay, node: Node) -> None:
    _, me = node.people.sign_in("payment:a", "payment:b")
    ticket = await node.realtime.tickets.issue(me, channels=["payment:a"])
    first = await asked(node, ticket=ticket)
    assert first["channels"] == ["payment:a"]
    await asked(node, ticket=ticket, status=401)
    sent = await emit(database, signed_up(me.user_id, channels=("payment:b",)), signed_up(me.user_id))
    sent += await emit(database, signed_up(me.user_id, channels=("payment:a",)))
    ticket = await node.realtime.tickets.issue(me, channels=["payment:a"])
    assert ids_of(await asked(node, ticket=ticket, cursor=first["cursor"], wait_s=HOUR_S)) == sent[2:]


async def test_a_revoked_session_is_answered_401_while_it_waits_and_afterwards(node: Node) -> None:
    token, me = node.people.sign_in()
    cursor = (await asked(node, token))["cursor"]
    poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S, status=401))
    await waiting(node)
    node.people.revoked.add(me.session_id)
    assert (await poll)["code"] == "auth.invalid"
    await asked(node, token, status=401)


async def test_a_poll_ends_with_its_token(node: Node) -> None:
    token, _ = node.people.sign_in(lives_s=1.0)
    cursor = (await asked(node, token))["cursor"]
    answer = await asked(node, token, cursor=cursor, wait_s=HOUR_S)
    assert (answer["events"], answer["cursor"]) == ([], cursor)


async def test_a_log_that_is_replaced_while_a_poll_waits_is_not_continued(
    database: Database, relay: Relay, node: Node
) -> None:
    token, _ = node.people.sign_in()
    cursor = (await asked(node, token))["cursor"]
    poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S, status=503))
    await waiting(node)
    async with database.transaction() as conn:
        await log.renew_epoch(conn)
    await poll
    answer = await asked(node, token, cursor=cursor, wait_s=HOUR_S)
    assert (answer["recovered"], answer["reason"]) == (False, "epoch")


async def test_one_who_goes_away_costs_nothing_more(node: Node) -> None:
    token, _ = node.people.sign_in()
    cursor = (await asked(node, token))["cursor"]
    poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
    await waiting(node)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    await reached(lambda: node.realtime.open_streams == 0, within_s=3)
    assert node.realtime._hub._by_channel == {}


async def test_a_stopping_process_answers_at_once_and_lets_nobody_in(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people) as node:
        token, _ = people.sign_in()
        cursor = (await asked(node, token))["cursor"]
        poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
        await waiting(node)
        await node.realtime.stop()
        answer = await poll
        assert (answer["recovered"], answer["events"], answer["cursor"]) == (True, [], cursor)
        assert (await asked(node, token, cursor=cursor, status=503))["code"] == "service.unavailable"
        await node.realtime.start()


async def test_an_event_between_the_end_of_a_poll_and_its_answer_belongs_to_the_next_answer(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    asleep = replace(FAST, hub_poll_s=HOUR_S, heartbeat_s=HOUR_S)
    async with serving(database, redis, people, asleep) as node, serving(database, redis, people) as other:
        hub = node.realtime._hub
        await reached(lambda: hub._wakeups.resubscribed == 2)
        hub._tasks[0].cancel()
        token, me = people.sign_in()
        cursor = (await asked(node, token))["cursor"]
        poll = asyncio.create_task(asked(node, token, cursor=cursor, wait_s=HOUR_S))
        await waiting(node)
        sent = await emit(database, signed_up(me.user_id))
        [entry] = await settled(database)
        [connection] = hub.connections
        connection.end(Close.GOING_AWAY)
        hub._dispatch([hub.delivery(entry)])
        answer = await poll
        assert (answer["events"], answer["cursor"]) == ([], cursor)
        assert ids_of(await asked(other, token, cursor=answer["cursor"], wait_s=HOUR_S)) == sent


def test_over_http_a_wallet_is_watched_with_polls(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, home: Path
) -> None:
    """The operation as it is served: every answer is held to realtime.yaml, every event in it to events.yaml."""
    with running(postgres, valkey, home) as stack, stack.client() as player:
        player.sign_up_and_in()
        cursor = player.call("GET", "/v1/realtime/poll", expect=200)["cursor"]
        player.paid_deposit()
        told: list[dict[str, Any]] = []

        def credited() -> bool:
            nonlocal cursor
            response = player.request("GET", "/v1/realtime/poll", params={"cursor": cursor, "wait_s": 5})
            assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
            answer = response.json()
            assert answer["recovered"]
            told.extend(answer["events"])
            cursor = answer["cursor"]
            return "wallet.credited" in [event["type"] for event in told]

        until(credited, what="the credit")
        assert {"deposit.started", "deposit.paid", "wallet.credited"} <= {event["type"] for event in told}
        assert len({event["id"] for event in told}) == len(told)
        assert [event["sequence"] for event in told] == sorted(event["sequence"] for event in told)
        response = player.request("GET", "/v1/realtime/poll", params={"cursor": cursor, "wait_s": 31})
        refused(response, 400, "contract.parameter", ("#/query/wait_s", "maximum"))


class Poller:
    """A client that polls any node, waits as long as it likes, and now and then hangs up in the middle."""

    def __init__(self, nodes: list[Node], token: str, *, seed: int) -> None:
        self._nodes, self._token = nodes, token
        self._dice = random.Random(seed)
        self.seen: list[str] = []
        self.answers: Counter[str] = Counter()

    async def run(self, total: int) -> None:
        cursor = (await asked(self._dice.choice(self._nodes), self._token))["cursor"]
        self.answers["first"] += 1
        while len(self.seen) < total:
            wait_s = self._dice.choice((0.0, 0.05, 5.0))
            poll = asyncio.create_task(asked(self._dice.choice(self._nodes), self._token, cursor=cursor, wait_s=wait_s))
            if self._dice.random() < 0.2:
                await asyncio.wait({poll}, timeout=self._dice.uniform(0, 0.02))
                if poll.cancel():
                    await asyncio.gather(poll, return_exceptions=True)
                    self.answers["hung up"] += 1
                    continue
            answer = await poll
            assert answer["recovered"], answer
            self.seen += ids_of(answer)
            cursor = answer["cursor"]
            self.answers["some" if answer["events"] else "none"] += 1


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whoever_polls_with_the_cursor_sees_the_whole_log_once_and_in_order(
    database: Database, redis: Redis, people: People, seed: int
) -> None:
    print("seed", seed)
    options = replace(FAST, hub_ring=20)
    token, me = people.sign_in()
    async with (
        serving(database, redis, people, options) as one,
        serving(database, redis, people, options) as two,
        relaying(database, redis),
    ):
        poller = Poller([one, two], token, seed=seed)
        polling = asyncio.create_task(poller.run(total=300))
        await reached(lambda: poller.answers["first"])
        dice, written = random.Random(-seed), []
        for _ in range(300):
            written += await emit(database, signed_up(me.user_id))
            await asyncio.sleep(dice.uniform(0, 0.01))  # so that polls find some and wait for some
        await reached(polling.done, within_s=60)
        await polling
        assert poller.seen == written
        assert poller.answers["some"] > 10
        assert poller.answers["hung up"]
