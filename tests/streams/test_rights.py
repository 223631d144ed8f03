"""Rights while a stream is open: withdrawn ones are gone in two seconds, unknown ones stay as they were, and both
transports are alike; and how many streams one user may have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts import ids
from contracts.errors import StorageBusy
from storage.db import Database
from streams.admission import Admission, Asked
from streams.connection import Close, Connection
from streams.frames import WebSocketFraming
from streams.options import StreamOptions
from streams.relay import Relay
from streams.tickets import Tickets
from tests.streams.harness import FAST, Node, People, SseClient, WsClient, emit, reached, serving, signed_up

Client = WsClient | SseClient
Open = Callable[..., Awaitable[Client]]
AS_IN_PRODUCTION = StreamOptions(drain_s=0.0)
WITHIN_S = 2.0


async def open_websocket(node: Node, token: str, channels: list[str], cursor: str | None = None) -> Client:
    return await WsClient.open(node, token, channels=channels, **({} if cursor is None else {"cursor": cursor}))


async def open_stream(node: Node, token: str, channels: list[str], cursor: str | None = None) -> Client:
    return await SseClient.open(node, token, last_event_id=cursor, channels=",".join(channels))


both = pytest.mark.parametrize("open_client", [open_websocket, open_stream], ids=["websocket", "sse"])


def activity() -> str:
    return f"activity:{ids.new('act')}"


def told(client: Client, name: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in message.items() if key != "op"} for message in client.of(name)]


async def soon(condition: Callable[[], object]) -> float:
    """Return how long it took, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await reached(lambda: bool(condition()))
    return loop.time() - began


@both
async def test_a_withdrawn_right_ends_a_channel_and_not_the_stream(
    database: Database, redis: Redis, relay: Relay, people: People, open_client: Open
) -> None:
    game, other_game = activity(), activity()
    async with serving(database, redis, people, AS_IN_PRODUCTION) as node:
        token, me = people.sign_in(game, other_game)
        mine = f"user:{me.user_id}"
        client = await open_client(node, token, [mine, game, other_game])
        begin = client.first["cursor"]
        seen = await emit(database, signed_up(me.user_id, channels=(game,)))
        await reached(lambda: client.event_ids == seen)

        people.readable[me.user_id].discard(game)
        assert await soon(lambda: client.of("unsubscribed")) <= WITHIN_S
        assert told(client, "unsubscribed") == [{"channels": [game], "reason": "forbidden"}]
        await emit(database, signed_up(me.user_id, channels=(game,)))
        seen += await emit(database, signed_up(me.user_id), signed_up(me.user_id, channels=(other_game,)))
        await reached(lambda: len(client.event_ids) >= len(seen))
        assert client.event_ids == seen
        await client.close()

        again = await open_client(node, token, [mine, game, other_game], begin)
        assert (again.first["channels"], again.first["refused"]) == (sorted([mine, other_game]), [game])
        await reached(lambda: len(again.event_ids) >= again.first["count"])
        assert again.event_ids == seen[1:]  # nothing of the channel, though it was readable when it happened
        await again.close()


@both
async def test_a_revoked_session_ends_within_two_seconds(
    database: Database, redis: Redis, people: People, open_client: Open
) -> None:
    async with serving(database, redis, people, AS_IN_PRODUCTION) as node:
        token, me = people.sign_in()
        client = await open_client(node, token, [f"user:{me.user_id}"])
        people.revoked.add(me.session_id)
        assert await soon(client.reader.done) <= WITHIN_S
        if isinstance(client, WsClient):
            assert client.code == 4401
        else:
            assert client.of("going_away") == [{"code": 4401, "reason": "token_invalid", "reconnect_after_ms": None}]


@both
async def test_a_question_that_cannot_be_asked_changes_nothing(
    database: Database, relay: Relay, node: Node, open_client: Open
) -> None:
    game, people = activity(), node.people
    token, me = people.sign_in(game)
    client = await open_client(node, token, [game])
    people.readable[me.user_id].discard(game)  # at once, and still: the answer is not known
    people.fault = StorageBusy()
    asked = people.asked_in_vain
    await reached(lambda: people.asked_in_vain >= asked + 4, what="more than one round of questions")
    sent = await emit(database, signed_up(me.user_id, channels=(game,)))
    await reached(lambda: client.event_ids == sent)
    assert client.of("unsubscribed") == []

    people.fault = None
    await reached(lambda: told(client, "unsubscribed") == [{"channels": [game], "reason": "forbidden"}])
    await client.close()


async def test_no_right_is_given_while_it_cannot_be_asked_for(node: Node) -> None:
    game = activity()
    token, me = node.people.sign_in(game)
    client = await WsClient.open(node, token, channels=[f"user:{me.user_id}"])
    node.people.fault = StorageBusy()
    await client.socket.send_json({"op": "subscribe", "channels": [game]})
    await reached(lambda: client.of("error"))
    assert [message["code"] for message in client.of("error")] == ["storage.busy"]
    refused = await SseClient.open(node, token, channels=game)
    assert refused.response.status == 503

    node.people.fault = None
    await client.socket.send_json({"op": "subscribe", "channels": [game]})
    await reached(lambda: client.of("subscribed"))
    assert client.of("subscribed")[0]["channels"] == sorted([game, f"user:{me.user_id}"])
    await client.close()
    await refused.close()


class Counted(People):
    """Counts questions."""

    questions: int = 0

    async def readable_among(self, asked: Collection[Asked]) -> set[Asked]:
        self.questions += 1
        return await super().readable_among(asked)


def admission_of(people: People, redis: Redis) -> Admission:
    return Admission(
        tickets=Tickets(redis, FAST), authenticate=people.authenticate, rights=people,
        revoked_among=people.revoked_among, options=FAST,
    )  # fmt: skip


async def test_a_request_is_one_question_however_many_channels_it_names(redis: Redis) -> None:
    people = Counted()
    games = [activity() for _ in range(128)]
    _, me = people.sign_in(*games[:64])
    grant = await admission_of(people, redis).grant(me, games)
    assert (grant.channels, list(grant.refused)) == (frozenset(games[:64]), games[64:])
    assert people.questions == 1


async def test_all_open_streams_are_one_question(redis: Redis) -> None:
    """Two users on one channel, one of whom has left; a third whose right cannot be withdrawn; one still opening."""
    people = Counted()
    game = activity()

    def connected(user: str, channel: str, *, live: bool = True) -> Connection:
        _, principal = people.sign_in(user=user)
        connection = Connection(principal, WebSocketFraming(), FAST, observe=None)
        connection.channels.add(channel)
        connection.outlet = object() if live else None  # type: ignore[assignment]
        return connection

    here, gone, other, opening = "usr_here", "usr_gone", "usr_other", "usr_opening"
    connections = [
        connected(here, game), connected(gone, game), connected(gone, game), connected(other, "payment:a"),
        connected(opening, game, live=False),
    ]  # fmt: skip
    people.readable[here].add(game)
    try:
        assert await admission_of(people, redis).withdrawn(connections) == {
            connections[1]: {game},
            connections[2]: {game},
        }
        assert people.questions == 1
        assert await admission_of(people, redis).withdrawn(connections[3:]) == {}
        assert people.questions == 1
    finally:
        for connection in connections:
            connection.end(Close.NORMAL)


async def test_one_user_has_so_many_streams_and_no_more(database: Database, redis: Redis, people: People) -> None:
    assert StreamOptions().max_streams_per_user == 20
    async with serving(database, redis, people, replace(FAST, max_streams_per_user=3)) as node:
        token, _ = people.sign_in()
        opened = await asyncio.gather(*(SseClient.open(node, token) for _ in range(8)))
        let_in = [client for client in opened if client.response.status == 200]
        refused = [client for client in opened if client.response.status == 429]
        assert (len(let_in), len(refused)) == (3, 5)
        assert refused[0].response.headers["Retry-After"] == "10"

        socket = await WsClient.open(node, token)
        await socket.ended()
        assert [message["code"] for message in socket.of("error")] == ["realtime.too_many_streams"]
        assert socket.code == 4029

        other = await WsClient.open(node, people.sign_in()[0])
        assert other.first["op"] == "welcome"
        await let_in[0].close()
        await reached(lambda: node.realtime.open_streams == 3)
        instead = await WsClient.open(node, token)
        assert instead.first["op"] == "welcome"
        for client in (*let_in[1:], *refused, other, instead):
            await client.close()
