from __future__ import annotations

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from contracts.errors import NotAuthenticated, Unavailable
from storage import redis as storage_redis
from streams.options import StreamOptions
from streams.tickets import Tickets
from tests.streams.harness import FAST, Node, People, SseClient, WsClient, reached


async def test_a_ticket_is_good_once(redis: Redis, people: People) -> None:
    tickets = Tickets(redis, FAST)
    _, me = people.sign_in()
    ticket = await tickets.issue(me)
    holder = await tickets.redeem(ticket)
    assert (holder.user_id, holder.session_id, holder.expires_at) == (me.user_id, me.session_id, me.expires_at)
    with pytest.raises(NotAuthenticated):
        await tickets.redeem(ticket)


async def test_a_ticket_is_good_for_thirty_seconds_only(redis: Redis, people: People) -> None:
    await Tickets(redis, StreamOptions()).issue(people.sign_in()[1])
    [key] = await redis.keys("streams:ticket:*")
    assert 28 <= await redis.ttl(key) <= 30
    short = Tickets(redis, replace(FAST, ticket_ttl_s=1))
    ticket = await short.issue(people.sign_in()[1])

    async def only_the_long_one_is_left() -> bool:
        return await redis.keys("streams:ticket:*") == [key]

    await reached(only_the_long_one_is_left)
    with pytest.raises(NotAuthenticated):
        await short.redeem(ticket)


async def test_redis_does_not_know_the_ticket(redis: Redis, people: People) -> None:
    ticket = await Tickets(redis, FAST).issue(people.sign_in()[1])
    for key in await redis.keys("*"):
        assert ticket not in key.decode()
        assert ticket not in (await redis.get(key)).decode()


async def test_without_redis_it_is_unavailable_and_not_invalid(people: People) -> None:
    client = storage_redis.connect("unix:///nowhere/valkey.sock")
    tickets = Tickets(client, FAST)
    with pytest.raises(Unavailable):
        await tickets.issue(people.sign_in()[1])
    with pytest.raises(Unavailable):
        await tickets.redeem("tkt_x")
    await client.aclose()


async def test_a_narrow_ticket_gives_its_channels_and_no_others(node: Node) -> None:
    _, me = node.people.sign_in("payment:a", "payment:b")
    narrow = [await node.realtime.tickets.issue(me, channels=["payment:a", "payment:x"]) for _ in range(2)]
    socket = await WsClient.open(node, ticket=narrow[0])
    assert (socket.first["channels"], socket.first["refused"]) == (["payment:a"], ["payment:x"])
    await socket.socket.send_json({"op": "subscribe", "channels": ["payment:b"]})
    await reached(lambda: socket.of("subscribed"))
    assert socket.messages[-1]["refused"] == ["payment:b"]
    await socket.close()
    stream = await SseClient.open(node, ticket=narrow[1], channels="payment:b,payment:a")
    assert (stream.first["channels"], stream.first["refused"]) == (["payment:a"], ["payment:b"])
    await stream.close()


async def test_a_ticket_of_a_session_that_was_revoked_since_opens_nothing(node: Node) -> None:
    _, me = node.people.sign_in()
    tickets = [await node.realtime.tickets.issue(me) for _ in range(2)]
    node.people.revoked.add(me.session_id)
    stream = await SseClient.open(node, ticket=tickets[0])
    assert stream.response.status == 401
    await stream.close()
    socket = await WsClient.open(node, ticket=tickets[1])
    await socket.ended()
    assert socket.code == 4401
