"""Clients that stop reading: given up in time, told why if they listen again, and nothing of them stays."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

import pytest
from redis.asyncio import Redis

from contracts.principal import Principal
from storage.db import Database
from streams.connection import Close, Connection
from streams.frames import close_frame, text_frame
from streams.options import KIB, StreamOptions
from streams.outlet import Outlet
from streams.relay import Relay
from tests.streams.harness import FAST, Node, People, WsClient, emit, reached, serving, signed_up

SMALL = 8 * KIB  # kernel buffers, so that a client is slow after kilobytes and not megabytes


def small_sockets(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)  # inherited by accepted sockets
    listening.bind((host, port))
    return listening


class Sleeper:
    """A client that opens a stream and then reads nothing until asked."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    async def open(cls, node: Node, transport: str, token: str, me: Principal, *, cursor: str | None = None) -> Self:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (node.server.host, node.server.port))
        await loop.sock_sendall(connection, _opening(transport, token, cursor))
        await reached(lambda: any(c.principal == me and c.outlet for c in node.realtime._hub.connections))
        return cls(connection)

    async def rest(self) -> bytes:
        """Read to the end of the stream, however it ends."""
        loop, read = asyncio.get_running_loop(), b""
        while True:
            try:
                data = await loop.sock_recv(self._socket, 65536)
            except ConnectionResetError:
                return read
            if not data:
                return read
            read += data

    def close(self) -> None:
        self._socket.close()


def _opening(transport: str, token: str, cursor: str | None) -> bytes:
    if transport == "sse":
        head = f"GET /sse HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
        return (head + (f"Last-Event-ID: {cursor}\r\n" if cursor else "") + "\r\n").encode()
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = (
        f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    connect = {"op": "connect", "token": token, **({"cursor": cursor} if cursor else {})}
    frame = bytearray(text_frame(json.dumps(connect).encode()))
    frame[1] |= 0x80  # a client masks (RFC 6455 section 5.3); a key of zeros leaves the payload as it is
    at = 2 if frame[1] & 0x7F < 126 else 4
    return upgrade + bytes(frame[:at]) + bytes(4) + bytes(frame[at:])


@asynccontextmanager
async def slow_node(database: Database, redis: Redis, people: People, **changes: Any) -> AsyncIterator[Node]:
    options = replace(FAST, close_grace_s=0.5, **changes)
    async with serving(database, redis, people, options, socket_factory=small_sockets) as node:
        yield node


async def flood(database: Database, me: Principal, until: asyncio.Event, most: int = 20_000) -> list[str]:
    sent: list[str] = []
    while not until.is_set() and len(sent) < most:
        sent += await emit(database, *(signed_up(me.user_id) for _ in range(50)))
    return sent


def the_connection(node: Node, me: Principal) -> Connection:
    [connection] = [c for c in node.realtime._hub.connections if c.principal == me]
    return connection


def in_memory(me: Principal) -> list[Connection]:
    """Connections of a principal that are still somewhere in this process."""
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Connection) and found.principal is me]


def open_sockets(node: Node) -> int:
    assert node.server.runner is not None
    server = node.server.runner.server
    assert server is not None
    return len(server.connections)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_one_who_falls_too_far_behind_is_given_up_and_leaves_nothing(
    database: Database, redis: Redis, relay: Relay, people: People, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[int] = []
    send = Outlet.send

    def watched(outlet: Outlet, block: bytes, *, key: str | None = None) -> None:
        send(outlet, block, key=key)
        queued.append(outlet.queued)

    monkeypatch.setattr(Outlet, "send", watched)
    async with slow_node(database, redis, people, queue_bytes=128 * KIB) as node:
        token, me = people.sign_in()
        other_token, other = people.sign_in()
        healthy = await WsClient.open(node, other_token)
        sleeper = await Sleeper.open(node, transport, token, me)
        assert in_memory(me)
        given_up = asyncio.Event()
        flooding = asyncio.create_task(flood(database, me, given_up))
        await reached(lambda: node.realtime.open_streams == 1, what="the eviction")
        given_up.set()
        await flooding
        await reached(lambda: not in_memory(me), what="the connection's memory")
        await reached(lambda: open_sockets(node) == 1, what="the socket and what was unsent in it")
        assert 0 < max(queued) <= 128 * KIB
        [sent] = await emit(database, signed_up(other.user_id))
        await reached(lambda: healthy.event_ids == [sent])
        await healthy.close()
        sleeper.close()


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_one_who_reads_nothing_for_the_deadline_is_given_up(
    database: Database, redis: Redis, relay: Relay, people: People, transport: str
) -> None:
    """Far from the byte limit, as a phone in a tunnel is."""
    async with slow_node(database, redis, people, write_deadline_s=0.5) as node:
        token, me = people.sign_in()
        sleeper = await Sleeper.open(node, transport, token, me)
        connection = the_connection(node, me)
        assert connection.outlet is not None
        stuck = asyncio.Event()
        flooding = asyncio.create_task(flood(database, me, stuck))
        await reached(lambda: connection.outlet is not None and connection.outlet.queued > 0)
        began = time.monotonic()
        stuck.set()
        await flooding
        await reached(lambda: node.realtime.open_streams == 0 and open_sockets(node) == 0, within_s=5)
        assert time.monotonic() - began < 0.5 + 0.5 + 2
        sleeper.close()


async def test_one_who_reads_again_in_time_is_told_why(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with slow_node(database, redis, people, queue_bytes=64 * KIB) as node:
        token, me = people.sign_in()
        sleeper = await Sleeper.open(node, "websocket", token, me)
        connection = the_connection(node, me)
        given_up = asyncio.Event()
        flooding = asyncio.create_task(flood(database, me, given_up))
        await reached(connection.ended.done, what="the eviction")
        read = await sleeper.rest()
        given_up.set()
        await flooding
        assert read.endswith(close_frame(4008, "slow"))
        sleeper.close()


async def test_a_slow_client_keeps_everything_in_order_while_it_is_within_the_limit(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    async with slow_node(database, redis, people) as node:
        token, me = people.sign_in()
        sleeper = await Sleeper.open(node, "sse", token, me)
        connection = the_connection(node, me)
        queued = asyncio.Event()
        flooding = asyncio.create_task(flood(database, me, queued))
        await reached(lambda: connection.outlet is not None and connection.outlet.queued > 100 * KIB)
        queued.set()
        sent = await flooding
        reading = asyncio.create_task(sleeper.rest())
        await reached(lambda: connection.position == len(sent) and connection.outlet and not connection.outlet.queued)
        connection.end(Close.GOING_AWAY)
        read = await reading
        ids = [line[6:] for line in read.split(b"\n") if line.startswith(b"data: ") and b"specversion" in line]
        assert [json.loads(data)["id"] for data in ids] == sent
        sleeper.close()


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_replay_larger_than_the_queue_is_not_taken_for_slowness(
    database: Database, redis: Redis, relay: Relay, people: People, transport: str
) -> None:
    """Else a client would be given up at once, come back with the same cursor, and be given up again."""
    async with slow_node(database, redis, people, queue_bytes=16 * KIB) as node:
        token, me = people.sign_in()
        cursor = node.realtime.cursor
        missed = await emit(database, *(signed_up(me.user_id) for _ in range(300)))
        await reached(lambda: node.realtime._hub.position == 300)
        sleeper = await Sleeper.open(node, transport, token, me, cursor=cursor)
        connection = the_connection(node, me)
        assert connection.outlet is not None
        assert connection.outlet.queued > 16 * KIB
        reading = asyncio.create_task(sleeper.rest())
        await reached(lambda: connection.outlet is not None and connection.outlet.queued == 0)
        connection.end(Close.GOING_AWAY)
        read = await reading
        assert all(event_id.encode() in read for event_id in missed)
        # from here on the limit is that of everybody
        assert connection.outlet._limit == 16 * KIB
        sleeper.close()


def test_the_limits_of_production_are_those_of_the_contract() -> None:
    options = StreamOptions()
    assert (options.queue_bytes, options.write_deadline_s) == (1 << 20, 10.0)
    assert options.write_deadline_s + options.close_grace_s <= 12
