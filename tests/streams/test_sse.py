"""The event stream's own manners."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from storage.db import Database
from streams.relay import Relay
from tests.streams.harness import FAST, Node, People, SseClient, emit, reached, serving, signed_up


async def test_the_first_event_says_where_the_stream_stands(node: Node) -> None:
    token, me = node.people.sign_in("payment:a", lives_s=100)
    client = await SseClient.open(node, token)
    ready = client.first
    assert ready["channels"] == sorted(["payment:a", f"user:{me.user_id}"])
    assert 90 <= ready["ttl_s"] <= 100
    assert ready["cursor"] == client.last_event_id == node.realtime.cursor
    assert client.retry_ms is not None
    assert FAST.reconnect_min_ms <= client.retry_ms <= FAST.reconnect_max_ms
    headers = client.response.headers
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Accel-Buffering"] == "no"
    await client.close()


async def test_without_credentials_nothing_is_opened(node: Node) -> None:
    for query in ({}, {"ticket": ""}, {"ticket": "tkt_nobody"}):
        client = await SseClient.open(node, **query)
        assert client.response.status == 401
        await client.close()
    assert node.realtime.open_streams == 0


async def test_a_ticket_opens_one_stream(database: Database, relay: Relay, node: Node) -> None:
    _, me = node.people.sign_in()
    ticket = await node.realtime.tickets.issue(me)
    client = await SseClient.open(node, ticket=ticket)
    [sent] = await emit(database, signed_up(me.user_id))
    await reached(lambda: client.event_ids == [sent])
    await client.close()
    again = await SseClient.open(node, ticket=ticket)
    assert again.response.status == 401
    await again.close()


@pytest.mark.parametrize(
    "channels", [",".join(f"payment:{number}" for number in range(129)), "x" * 101], ids=["too many", "too long"]
)
async def test_channels_beyond_the_limits_are_refused(node: Node, channels: str) -> None:
    token, _ = node.people.sign_in()
    client = await SseClient.open(node, token, channels=channels)
    assert client.response.status == 400
    assert (await client.response.json())["code"] == "contract.parameter"
    await client.close()


async def test_only_the_channels_that_were_asked_for_and_allowed(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in("payment:a", "payment:b")
    client = await SseClient.open(node, token, channels="payment:a,payment:x,,payment:a")
    assert (client.first["channels"], client.first["refused"]) == (["payment:a"], ["payment:x"])
    events = [signed_up(me.user_id, channels=(f"payment:{name}",)) for name in "bxa"]
    sent = await emit(database, *events)
    await reached(lambda: client.event_ids == sent[2:])
    await client.close()


async def test_a_stream_is_rotated_and_so_comes_to_an_end(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, max_lifetime_s=0.3)) as node:
        token, _ = people.sign_in()
        client = await SseClient.open(node, token)
        await client.ended()
        [going_away] = client.of("going_away")
        assert (going_away["code"], going_away["reason"]) == (4001, "going_away")
        assert client.retry_ms == going_away["reconnect_after_ms"]
        # whole: the last chunk came, so that clients of plain HTTP see an answer that is complete
        assert client.response.content.is_eof()
        assert client.response.content.exception() is None
        await client.close()
        assert node.realtime.open_streams == 0


async def test_the_stream_ends_with_its_token(node: Node) -> None:
    token, _ = node.people.sign_in(lives_s=0.5)
    client = await SseClient.open(node, token)
    await client.ended()
    [going_away] = client.of("going_away")
    assert (going_away["code"], going_away["reason"]) == (4002, "token_expired")
    assert client.retry_ms == going_away["reconnect_after_ms"]


async def test_a_revoked_session_is_shown_out(node: Node) -> None:
    token, me = node.people.sign_in()
    client = await SseClient.open(node, token)
    node.people.revoked.add(me.session_id)
    await reached(client.reader.done, within_s=2.0)
    assert client.of("going_away")[0]["code"] == 4401


async def test_a_stopping_process_ends_its_streams_and_lets_nobody_in(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people) as node:
        token, _ = people.sign_in()
        client = await SseClient.open(node, token)
        await node.realtime.stop()
        await client.ended()
        assert client.of("going_away")[0]["code"] == 4001
        refused = await SseClient.open(node, token)
        assert (refused.response.status, refused.response.headers["Retry-After"]) == (503, "1")
        await refused.close()
        await node.realtime.start()


async def test_a_quiet_stream_is_pinged_and_its_cursor_does_not_grow_old(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, ping_s=0.2)) as node:
        token, _ = people.sign_in()
        _, other = people.sign_in()
        client = await SseClient.open(node, token)
        await emit(database, signed_up(other.user_id))
        await reached(lambda: client.comments > 1 and client.last_event_id != client.first["cursor"])
        assert client.last_event_id == node.realtime.cursor
        assert client.of("cursor")[-1] == {"cursor": client.last_event_id}
        assert client.events == []
        cursor = client.last_event_id
        await client.close()
        again = await SseClient.open(node, token, last_event_id=cursor)
        assert (again.first["recovered"], again.first["count"]) == (True, 0)
        await again.close()


async def test_one_whose_network_is_gone_is_noticed_by_the_kernel(node: Node) -> None:
    """Nothing comes back from a half-open connection, so only the kernel knows that pings are not acknowledged."""
    token, _ = node.people.sign_in()
    client = await SseClient.open(node, token)
    assert node.server.runner is not None
    server = node.server.runner.server
    assert server is not None
    [protocol] = server.connections
    assert protocol.transport is not None
    sock = protocol.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == FAST.write_deadline_s * 1000
    await client.close()


async def test_one_who_vanishes_leaves_nothing_behind(node: Node) -> None:
    token, _ = node.people.sign_in()
    client = await SseClient.open(node, token)
    assert node.realtime.open_streams == 1
    await client.close()
    await reached(lambda: node.realtime.open_streams == 0)
    assert node.realtime._hub._by_channel == {}


async def test_one_who_has_just_left_does_not_hold_up_a_process_that_stops(
    database: Database, redis: Redis, people: People
) -> None:
    """A handler that was cancelled took the end of its stream with it, and the drain waited for that to the last."""
    loop = asyncio.get_running_loop()
    async with serving(database, redis, people) as node:
        client = await SseClient.open(node, people.sign_in()[0])
        await client.close()
        began = loop.time()
    assert loop.time() - began < FAST.write_deadline_s / 2


async def test_a_client_of_http_1_0_gets_the_stream_without_chunks(
    database: Database, relay: Relay, node: Node
) -> None:
    token, me = node.people.sign_in()
    reader, writer = await asyncio.open_connection(node.server.host, node.server.port)
    writer.write(f"GET /sse HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert (await reader.readuntil(b"\n\n")).startswith(b"retry: ")
    assert (await reader.readuntil(b"\n\n")).split(b"\n")[1] == b"event: ready"
    [sent] = await emit(database, signed_up(me.user_id))
    assert sent.encode() in await reader.readuntil(b"\n\n")
    writer.close()
    await writer.wait_closed()
