"""A token is renewed on the open WebSocket; an event stream, which cannot be sent one, ends with its own."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from contracts.errors import StorageBusy
from contracts.principal import Principal
from storage.db import Database
from streams.options import StreamOptions
from streams.relay import Relay
from tests.streams.harness import (
    FAST,
    Node,
    People,
    SseClient,
    WsClient,
    emit,
    reached,
    relaying,
    serving,
    signed_up,
)


async def refreshed(client: WsClient, token: str) -> dict[str, object]:
    """Send a token; the answer."""
    before = len(client.of("refreshed"))
    await client.socket.send_json({"op": "refresh", "token": token})
    await reached(lambda: len(client.of("refreshed")) > before or client.reader.done(), what="an answer")
    return client.of("refreshed")[before]


async def refused(client: WsClient, token: str) -> dict[str, object]:
    """Send a token that will not do; the error."""
    before = len(client.of("error"))
    await client.socket.send_json({"op": "refresh", "token": token})
    await reached(lambda: len(client.of("error")) > before, what="an error")
    return client.of("error")[before]


async def warned(client: WsClient, times: int) -> None:
    await reached(lambda: len(client.of("token_expiring")) == times, what="a warning")


def is_over(principal: Principal) -> bool:
    return datetime.now(UTC) > principal.expires_at


async def test_a_stream_outlives_its_tokens_and_loses_or_repeats_nothing(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, token_grace_s=0.0)) as node:
        token, me = people.sign_in(lives_s=0.8)
        client = await WsClient.open(node, token)
        written: list[str] = []
        stopping = asyncio.Event()

        async def write() -> None:
            while not stopping.is_set():
                written.extend(await emit(database, signed_up(me.user_id)))

        writing = asyncio.create_task(write())
        tokens = [me]
        for renewal in range(1, 5):
            await warned(client, renewal)
            assert not is_over(tokens[-1])
            token, principal = people.sign_in(user=me.user_id, lives_s=0.8)
            answer = await refreshed(client, token)
            assert (answer["channels"], answer["refused"], answer["ttl_s"]) == ([f"user:{me.user_id}"], [], 0)
            tokens.append(principal)
        await reached(lambda: is_over(tokens[-2]))
        stopping.set()
        await writing
        await reached(lambda: len(client.event_ids) >= len(written))
        assert client.event_ids == written
        await client.ended()
        assert client.code == 4002


async def test_the_cursor_of_the_answer_is_worth_a_resume(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in()
    client = await WsClient.open(node, token)
    [seen] = await emit(database, signed_up(me.user_id))
    await reached(lambda: client.event_ids == [seen])
    answer = await refreshed(client, token)
    assert answer["cursor"] == client.cursor
    await client.close()
    missed = await emit(database, signed_up(me.user_id))
    again = await WsClient.open(node, token, cursor=answer["cursor"])
    await reached(lambda: again.event_ids == missed)
    assert again.first["recovered"]
    await again.close()


async def test_the_warning_comes_after_four_fifths_of_what_is_left(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people) as node:
        token, me = people.sign_in(lives_s=2.0)
        socket, stream = await WsClient.open(node, token), await SseClient.open(node, token)
        await reached(lambda: socket.of("token_expiring") and stream.of("token_expiring"))
        left_s = (me.expires_at - datetime.now(UTC)).total_seconds()
        assert 0.1 < left_s <= 0.4
        assert socket.of("token_expiring") == [{"op": "token_expiring", "ttl_s": 0}]
        assert stream.of("token_expiring") == [{"ttl_s": 0}]
        assert [block for block in stream.blocks if block["event"] == "token_expiring" and "id" in block] == []
        await socket.close()
        await stream.close()


def test_the_limits_of_production_are_those_of_the_contract() -> None:
    options = StreamOptions()
    assert (options.token_warning, options.token_grace_s) == (0.8, 25.0)


async def test_an_expired_token_is_waited_for_and_events_come_meanwhile(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, token_grace_s=1.0)) as node:
        token, me = people.sign_in(lives_s=0.3)
        began = time.monotonic()
        client = await WsClient.open(node, token)
        await reached(lambda: is_over(me))
        sent = await emit(database, signed_up(me.user_id))
        await reached(lambda: client.event_ids == sent)
        assert not client.reader.done()
        await client.ended()
        assert client.code == 4002
        assert 1.2 < time.monotonic() - began < 3.0


async def test_a_late_token_is_still_in_time(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, token_grace_s=1.0)) as node:
        token, me = people.sign_in(lives_s=0.3)
        client = await WsClient.open(node, token)
        await reached(lambda: is_over(me))
        longer, _ = people.sign_in(user=me.user_id, lives_s=900)
        answer = await refreshed(client, longer)
        assert 890 <= int(str(answer["ttl_s"])) <= 900
        connection = next(iter(node.realtime._hub.connections))
        assert connection._credentials.when() - asyncio.get_running_loop().time() > 600
        await client.close()


async def test_a_session_that_is_revoked_during_the_grace_is_shown_out(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people) as node:
        token, me = people.sign_in(lives_s=0.2)
        client = await WsClient.open(node, token)
        await reached(lambda: is_over(me))
        people.revoked.add(me.session_id)
        await reached(client.reader.done, within_s=2.0)
        assert client.code == 4401


async def test_the_stream_belongs_to_the_session_of_its_newest_token(node: Node) -> None:
    token, me = node.people.sign_in()
    client = await WsClient.open(node, token)
    newer, again = node.people.sign_in(user=me.user_id)
    await refreshed(client, newer)
    node.people.revoked.add(me.session_id)
    other, they = node.people.sign_in()
    witness = await WsClient.open(node, other)
    node.people.revoked.add(they.session_id)
    await witness.ended()  # so revocations were asked for, after the first was one
    assert not client.reader.done()
    node.people.revoked.add(again.session_id)
    await client.ended()
    assert client.code == 4401


async def test_another_users_token_ends_the_stream(node: Node) -> None:
    token, _ = node.people.sign_in()
    other, _ = node.people.sign_in()
    client = await WsClient.open(node, token)
    error = await refused(client, other)
    await client.ended()
    assert (client.code, error["code"]) == (4401, "realtime.another_user")


async def test_a_token_that_is_no_good_is_told_and_the_stream_goes_on_as_long_as_its_own(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, token_grace_s=0.0)) as node:
        token, me = people.sign_in(lives_s=1.0)
        client = await WsClient.open(node, token)
        revoked, ended = people.sign_in(user=me.user_id)
        people.revoked.add(ended.session_id)
        assert (await refused(client, "nobody"))["code"] == "auth.invalid"
        assert (await refused(client, revoked))["code"] == "auth.invalid"
        sent = await emit(database, signed_up(me.user_id))
        await reached(lambda: client.event_ids == sent)
        await client.ended()
        assert client.code == 4002
        assert is_over(me)


async def test_rights_that_cannot_be_asked_leave_everything_as_it_is(node: Node) -> None:
    token, me = node.people.sign_in("payment:a")
    client = await WsClient.open(node, token, channels=["payment:a"])
    connection = next(iter(node.realtime._hub.connections))
    newer, _ = node.people.sign_in(user=me.user_id)
    node.people.fault = StorageBusy()
    assert (await refused(client, newer))["code"] == "storage.busy"
    assert (connection.principal, connection.channels) == (me, {"payment:a"})
    node.people.fault = None
    assert (await refreshed(client, newer))["channels"] == ["payment:a"]
    await client.close()


async def test_tokens_are_counted_as_messages(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, message_limit=5)) as node:
        token, _ = people.sign_in()
        client = await WsClient.open(node, token)
        for _ in range(6):
            await client.socket.send_json({"op": "refresh", "token": "guess"})
        await client.ended()
        assert [error["code"] for error in client.of("error")] == ["auth.invalid"] * 5 + ["realtime.too_many_messages"]
        assert client.code == 4029


async def test_channels_that_may_not_be_read_any_more_are_left_and_named(
    database: Database, relay: Relay, node: Node
) -> None:
    token, me = node.people.sign_in("payment:a", "payment:b")
    client = await WsClient.open(node, token)
    node.people.readable[me.user_id].discard("payment:a")
    answer = await refreshed(client, token)
    assert answer["channels"] == ["payment:b", f"user:{me.user_id}"]
    assert answer["refused"] == ["payment:a"]
    await emit(database, signed_up(me.user_id, channels=("payment:a",)))
    kept = await emit(database, signed_up(me.user_id, channels=("payment:b",)), signed_up(me.user_id))
    await reached(lambda: len(client.event_ids) >= 2)
    assert client.event_ids == kept
    await client.close()


async def test_a_stream_opened_with_a_ticket_is_renewed_with_a_token(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, token_grace_s=0.0)) as node:
        _, me = people.sign_in(lives_s=0.8)
        client = await WsClient.open(node, path=f"/ws?ticket={await node.realtime.tickets.issue(me)}")
        token, _ = people.sign_in(user=me.user_id)
        await refreshed(client, token)
        await reached(lambda: is_over(me))
        sent = await emit(database, signed_up(me.user_id))
        await reached(lambda: client.event_ids == sent)
        await client.close()


async def test_a_narrow_ticket_stays_narrow(node: Node) -> None:
    token, me = node.people.sign_in("payment:a", "payment:b")
    client = await WsClient.open(node, ticket=await node.realtime.tickets.issue(me, channels=["payment:a"]))
    answer = await refreshed(client, token)
    assert (answer["channels"], answer["refused"]) == (["payment:a"], [])
    await client.socket.send_json({"op": "subscribe", "channels": ["payment:b"]})
    await reached(lambda: client.of("subscribed"))
    assert client.messages[-1]["refused"] == ["payment:b"]
    await client.close()


async def test_rotation_comes_in_its_own_time(database: Database, redis: Redis, people: People) -> None:
    """Neither later for a newer token, nor for one that is waited for."""
    options = replace(FAST, max_lifetime_s=0.8, lifetime_jitter=0.0)
    async with serving(database, redis, people, options) as node:
        began = time.monotonic()
        token, me = people.sign_in(lives_s=900)
        short, _ = people.sign_in(lives_s=0.2)
        renewed, waited_for = await WsClient.open(node, token), await WsClient.open(node, short)
        for _ in range(3):
            await refreshed(renewed, people.sign_in(user=me.user_id)[0])
        for client in (renewed, waited_for):
            await client.ended()
            assert client.code == 4001
        assert 0.8 <= time.monotonic() - began < 2.5


class Renewer:
    """A client with short tokens: renews some, lets some run out, leaves in between, and comes back to any node."""

    def __init__(self, nodes: list[Node], people: People, user: str, *, seed: int) -> None:
        self._nodes, self._people, self._user = nodes, people, user
        self._dice = random.Random(seed)
        self._cursor: str | None = None
        self.seen: list[str] = []
        self.count: Counter[str] = Counter()

    async def run(self, total: int) -> None:
        while len(self.seen) < total:
            connect = {} if self._cursor is None else {"cursor": self._cursor}
            client = await WsClient.open(self._dice.choice(self._nodes), self._token(), **connect)
            assert self._cursor is None or client.first["recovered"], client.first
            self.count["opened"] += 1
            await self._stay(client)
            await client.close()
            self.count[f"closed {client.code}"] += 1
            self.seen += client.event_ids
            # the newest of all, as a client keeps it: of an event, of the answer to a refresh, of the beginning
            told = [message.get("event", message) for message in client.messages]
            self._cursor = [message["cursor"] for message in told if "cursor" in message][-1]

    async def _stay(self, client: WsClient) -> None:
        for renewals in range(self._dice.randint(0, 3)):
            await reached(lambda due=renewals: len(client.of("token_expiring")) > due or client.reader.done())
            if client.reader.done():
                return
            await client.socket.send_json({"op": "refresh", "token": self._token()})
            self.count["renewed"] += 1
        if self._dice.random() < 0.5:
            await client.ended()

    def _token(self) -> str:
        return self._people.sign_in(user=self._user, lives_s=self._dice.uniform(0.2, 0.6))[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whoever_renews_now_and_then_sees_the_whole_log_once_and_in_order(
    database: Database, redis: Redis, people: People, seed: int
) -> None:
    print("seed", seed)
    options = replace(FAST, token_grace_s=0.2, hub_ring=20)
    _, me = people.sign_in()
    async with (
        serving(database, redis, people, options) as one,
        serving(database, redis, people, options) as two,
        relaying(database, redis),
    ):
        renewer = Renewer([one, two], people, me.user_id, seed=seed)
        renewing = asyncio.create_task(renewer.run(total=300))
        await reached(lambda: renewer.count["opened"] or one.realtime.open_streams or two.realtime.open_streams)
        dice, written = random.Random(-seed), []
        for _ in range(300):
            written += await emit(database, signed_up(me.user_id))
            await asyncio.sleep(dice.uniform(0, 0.05))  # so that tokens run out meanwhile
        await reached(renewing.done, within_s=60)
        await renewing
        assert renewer.seen == written
        assert renewer.count["renewed"] > 3, renewer.count
        assert renewer.count["closed 4002"], renewer.count


@pytest.mark.parametrize(
    "message", [{"op": "refresh"}, {"op": "refresh", "token": ""}, {"op": "refresh", "ticket": "tkt_x"}]
)
async def test_a_refresh_that_the_contract_does_not_describe_ends_the_stream(
    node: Node, message: dict[str, str]
) -> None:
    token, _ = node.people.sign_in()
    client = await WsClient.open(node, token)
    await client.socket.send_json(message)
    await client.ended()
    assert (client.code, client.messages[-1]["code"]) == (4400, "contract.message")


async def test_a_refresh_opens_nothing(node: Node) -> None:
    token, _ = node.people.sign_in()
    client = WsClient(await node.session.ws_connect(node.url("/ws")))
    await client.socket.send_str(json.dumps({"op": "refresh", "token": token}))
    await client.ended()
    assert (client.code, client.messages[-1]["code"]) == (4400, "realtime.connect_expected")


async def test_an_event_stream_ends_with_its_token_and_a_new_ticket_goes_on(
    database: Database, relay: Relay, node: Node
) -> None:
    _, me = node.people.sign_in(lives_s=1.0)
    client = await SseClient.open(node, ticket=await node.realtime.tickets.issue(me))
    seen = await emit(database, signed_up(me.user_id))
    await reached(lambda: client.event_ids == seen)
    await client.ended()
    [going_away] = client.of("going_away")
    assert (going_away["code"], going_away["reason"]) == (4002, "token_expired")
    assert client.retry_ms == going_away["reconnect_after_ms"]
    late_s = (datetime.now(UTC) - me.expires_at).total_seconds()
    assert 0 <= late_s < 1.0, "no grace: nobody can send a token here"
    missed = await emit(database, signed_up(me.user_id))
    _, longer = node.people.sign_in(user=me.user_id)
    again = await SseClient.open(
        node, ticket=await node.realtime.tickets.issue(longer), last_event_id=client.last_event_id
    )
    await reached(lambda: again.event_ids == missed)
    assert again.first["recovered"]
    await again.close()
