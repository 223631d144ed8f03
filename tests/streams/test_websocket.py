"""The WebSocket's own manners: letting in, operations, limits, and the code with which it ends."""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import replace

import pytest
from aiohttp import WSServerHandshakeError
from redis.asyncio import Redis

from contracts.errors import StorageBusy
from storage.db import Database
from streams.connection import Close
from streams.options import KIB, StreamOptions
from streams.relay import Relay
from tests.streams.harness import (
    FAST,
    Node,
    People,
    SseClient,
    WsClient,
    emit,
    reached,
    serving,
    settled,
    signed_up,
)


async def raw(node: Node, *messages: str | bytes, path: str = "/ws") -> WsClient:
    """Send anything; return once the server has ended the stream."""
    client = WsClient(await node.session.ws_connect(node.url(path)))
    for message in messages:
        if isinstance(message, bytes):
            await client.socket.send_bytes(message)
        else:
            await client.socket.send_str(message)
    await client.ended()
    return client


async def test_welcome_says_where_the_stream_stands(node: Node) -> None:
    token, me = node.people.sign_in("payment:a", lives_s=100)
    client = await WsClient.open(node, token)
    welcome = client.first
    assert welcome["channels"] == sorted(["payment:a", f"user:{me.user_id}"])
    assert (welcome["op"], welcome["refused"]) == ("welcome", [])
    assert 90 <= welcome["ttl_s"] <= 100
    assert welcome["cursor"] == node.realtime.cursor
    await client.close()


@pytest.mark.parametrize(
    ("messages", "code", "error"),
    [
        (["{"], 4400, "contract.json"),
        (["[]"], 4400, "contract.message"),
        (["null"], 4400, "contract.message"),
        (['"connect"'], 4400, "contract.message"),
        (['{"op": "fly"}'], 4400, "contract.message"),
        (['{"op": ["connect"]}'], 4400, "contract.message"),
        (['{"op": "connect"}'], 4400, "contract.message"),
        (['{"op": "connect", "token": 7}'], 4400, "contract.message"),
        (['{"op": "connect", "token": "x", "ticket": "y"}'], 4400, "contract.message"),
        (['{"op": "connect", "token": "x", "cursor": "' + "c" * 401 + '"}'], 4400, "contract.message"),
        (['{"op": "connect", "token": "x", "surprise": 1}'], 4400, "contract.message"),
        (["[" * 30_000], 4400, "contract.json"),
        ([b"\x00\x01"], 4400, "contract.message"),
        (['{"op": "ping"}'], 4400, "realtime.connect_expected"),
        (['{"op": "connect", "token": "nobody"}'], 4401, "auth.invalid"),
        (['{"op": "connect", "ticket": "tkt_nobody"}'], 4401, "auth.invalid"),
    ],
)
async def test_a_first_message_that_is_no_good_ends_the_stream_with_its_reason(
    node: Node, messages: list[str | bytes], code: int, error: str
) -> None:
    client = await raw(node, *messages)
    assert client.code == code
    assert [message["code"] for message in client.of("error")] == [error]
    assert node.realtime.open_streams == 0


async def test_an_error_names_field_and_rule_and_never_the_value(node: Node) -> None:
    client = await raw(node, json.dumps({"op": "connect", "token": "hunter2", "channels": "hunter2"}))
    [error] = client.of("error")
    assert error["errors"] == [{"pointer": "#/channels", "rule": "type", "message": "must be of type array"}]
    assert "hunter2" not in json.dumps(client.messages)


async def test_one_who_says_nothing_is_shown_out(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, connect_timeout_s=0.2)) as node:
        client = await raw(node)
        assert client.code == 4400
        assert client.of("error")[0]["code"] == "realtime.connect_expected"


@pytest.mark.parametrize(("size", "code"), [(64 * KIB, 4400), (64 * KIB + 1, 1009)])
async def test_a_message_larger_than_the_limit_ends_the_stream(node: Node, size: int, code: int) -> None:
    """One of just the limit is read, and found not to be in the contract."""
    empty = json.dumps({"op": "connect", "token": ""})
    client = await raw(node, empty.replace('""', f'"{"x" * (size - len(empty))}"'))
    assert client.code == code
    assert node.realtime.open_streams == 0


@pytest.mark.parametrize(("last", "code"), [(64 * KIB - 2 * 20_000, None), (64 * KIB + 1 - 2 * 20_000, 1009)])
async def test_a_message_in_pieces_is_one_message_and_has_the_limit_of_one(
    node: Node, last: int, code: int | None
) -> None:
    token, _ = node.people.sign_in()
    client = await WsClient.open(node, token)
    message = json.dumps({"op": "ping"}).ljust(40_000 + last)
    pieces = [message[:20_000], message[20_000:40_000], message[40_000:]]
    wire = b"".join(
        masked(piece.encode(), opcode=0 if number else 1, final=number == 2) for number, piece in enumerate(pieces)
    )
    assert client.socket._conn is not None
    client.socket._conn.transport.write(wire)  # type: ignore[union-attr]
    await reached(lambda: client.of("pong") or client.reader.done())
    assert client.code == code
    await client.close()


def masked(payload: bytes, *, opcode: int, final: bool) -> bytes:
    """A client's frame (RFC 6455 section 5.2); a masking key of zeros leaves the payload as it is."""
    return struct.pack(">BBH4x", 0x80 * final | opcode, 0x80 | 126, len(payload)) + payload


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b'{"op": "ping"}', "contract.message"),
        ("{", "contract.json"),
        ('{"op": "fly"}', "contract.message"),
        ('{"op": "welcome"}', "contract.message"),
        ('{"op": "subscribe"}', "contract.message"),
        ('{"op": "subscribe", "channels": ["' + "x" * 101 + '"]}', "contract.message"),
        (json.dumps({"op": "subscribe", "channels": [f"payment:{n}" for n in range(129)]}), "contract.message"),
        ('{"op": "ping", "surprise": 1}', "contract.message"),
    ],
)
async def test_a_message_that_the_contract_does_not_describe_ends_an_open_stream(
    node: Node, message: str | bytes, error: str
) -> None:
    token, _ = node.people.sign_in()
    client = await raw(node, json.dumps({"op": "connect", "token": token}), message)
    assert (client.code, client.messages[-1]["code"]) == (4400, error)
    await reached(lambda: node.realtime.open_streams == 0)


async def test_a_foreign_origin_is_refused_before_the_upgrade(database: Database, redis: Redis, people: People) -> None:
    options = replace(FAST, allowed_origins=frozenset({"https://play.example"}))
    async with serving(database, redis, people, options) as node:
        with pytest.raises(WSServerHandshakeError) as refused:
            await node.session.ws_connect(node.url("/ws"), headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403
        socket = await node.session.ws_connect(node.url("/ws"), headers={"Origin": "https://play.example"})
        await socket.close()
        for foreign in ("null", "", "http://play.example", "https://play.example:8443", "https://play.example.evil"):
            with pytest.raises(WSServerHandshakeError) as refused:
                await node.session.ws_connect(node.url("/ws"), headers={"Origin": foreign})
            assert refused.value.status == 403


async def test_a_plain_request_is_told_to_upgrade(node: Node) -> None:
    async with node.session.get(node.url("/ws")) as response:
        assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
        assert (await response.json())["code"] == "realtime.upgrade_required"


async def test_frames_are_not_compressed_even_when_the_client_offers(node: Node) -> None:
    socket = await node.session.ws_connect(node.url("/ws"), compress=15)
    assert socket.compress == 0
    await socket.close()


async def test_subscribe_and_unsubscribe(database: Database, relay: Relay, node: Node) -> None:
    token, me = node.people.sign_in("payment:a")
    client = await WsClient.open(node, token, channels=[])
    assert client.first["channels"] == []
    await client.socket.send_json({"op": "subscribe", "channels": ["payment:a", "payment:b", "payment:a"]})
    await reached(lambda: client.of("subscribed"))
    assert client.messages[-1] == {
        "op": "subscribed", "channels": ["payment:a"], "refused": ["payment:b"], "cursor": client.first["cursor"],
    }  # fmt: skip
    [wanted, _] = await emit(
        database, signed_up(me.user_id, channels=("payment:a",)), signed_up(me.user_id, channels=("payment:b",))
    )
    await reached(lambda: client.event_ids == [wanted])
    await client.socket.send_json({"op": "unsubscribe", "channels": ["payment:a", "never:there"]})
    await reached(lambda: len(client.of("subscribed")) == 2)
    assert client.messages[-1]["channels"] == []
    await emit(database, signed_up(me.user_id, channels=("payment:a",)))
    await client.socket.send_json({"op": "subscribe", "channels": [f"user:{me.user_id}"]})
    await reached(lambda: len(client.of("subscribed")) == 3)
    [last] = await emit(database, signed_up(me.user_id))
    await reached(lambda: client.event_ids == [wanted, last])
    await client.close()


async def test_more_channels_than_the_limit_change_nothing(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, max_channels=3)) as node:
        token, _ = people.sign_in(*(f"payment:{name}" for name in "abcd"))
        client = await WsClient.open(node, token, channels=["payment:a", "payment:b"])
        await client.socket.send_json({"op": "subscribe", "channels": ["payment:c", "payment:d"]})
        await reached(lambda: client.of("error"))
        assert client.messages[-1]["code"] == "realtime.too_many_channels"
        await client.socket.send_json({"op": "subscribe", "channels": ["payment:c", "payment:a"]})
        await reached(lambda: client.of("subscribed"))
        assert client.messages[-1]["channels"] == ["payment:a", "payment:b", "payment:c"]
        await client.close()


async def test_pong_carries_the_newest_cursor_even_if_the_events_were_others(
    database: Database, relay: Relay, node: Node
) -> None:
    token, _ = node.people.sign_in()
    _, other = node.people.sign_in()
    client = await WsClient.open(node, token)
    before = node.realtime.cursor
    await emit(database, signed_up(other.user_id))
    await reached(lambda: node.realtime.cursor != before)
    await client.socket.send_json({"op": "ping"})
    await reached(lambda: client.of("pong"))
    assert client.messages[-1] == {"op": "pong", "cursor": node.realtime.cursor}
    await client.close()


async def test_a_stream_that_is_about_to_end_is_given_no_cursor_of_what_it_was_not_sent(
    database: Database, redis: Redis, relay: Relay, people: People
) -> None:
    """Between the end and the good-bye there is time for an event and for a ping; the event was lost."""
    asleep = replace(FAST, hub_poll_s=3600.0, heartbeat_s=3600.0)
    async with serving(database, redis, people, asleep) as node, serving(database, redis, people) as other:
        hub = node.realtime._hub
        await reached(lambda: hub._wakeups.resubscribed == 2)
        hub._tasks[0].cancel()
        token, me = people.sign_in()
        client = await WsClient.open(node, token)
        [connection] = hub.connections
        sent = await emit(database, signed_up(me.user_id))
        [entry] = await settled(database)
        connection.end(Close.GOING_AWAY)
        hub._dispatch([hub.delivery(entry)])
        carry_out = node.realtime._websockets._carry_out
        await carry_out({"op": "ping"}, connection)
        await carry_out({"op": "subscribe", "channels": [f"user:{me.user_id}"]}, connection)
        await carry_out({"op": "refresh", "token": token}, connection)
        await client.ended()
        assert [message["op"] for message in client.messages] == ["welcome", "going_away"]
        again = await WsClient.open(other, token, cursor=client.cursor)
        await reached(lambda: again.event_ids == sent)
        await again.close()


async def test_a_second_connect_ends_the_stream(node: Node) -> None:
    token, _ = node.people.sign_in()
    client = await WsClient.open(node, token)
    await client.socket.send_json({"op": "connect", "token": token})
    await client.ended()
    assert (client.code, client.messages[-1]["code"]) == (4400, "realtime.already_open")


async def test_one_who_talks_too_much_is_shown_out(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, message_limit=5)) as node:
        token, _ = people.sign_in()
        client = await WsClient.open(node, token)
        for _ in range(6):
            await client.socket.send_json({"op": "ping"})
        await client.ended()
        assert len(client.of("pong")) == 5
        assert (client.code, client.messages[-1]["code"]) == (4029, "realtime.too_many_messages")


async def test_thirty_messages_in_ten_seconds_are_not_too_many_and_one_more_is(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people, StreamOptions(drain_s=0.0)) as node:
        token, _ = people.sign_in()
        client = await WsClient.open(node, token)
        for _ in range(31):
            await client.socket.send_json({"op": "ping"})
        await client.ended()
        assert len(client.of("pong")) == 30
        assert client.code == 4029


async def said(client: WsClient, *, pings: int) -> None:
    """Send pings and wait for the last one's answer."""
    due = len(client.of("pong")) + pings
    for _ in range(pings):
        await client.socket.send_json({"op": "ping"})
    await reached(lambda: len(client.of("pong")) == due)


async def test_messages_are_counted_over_a_sliding_window(database: Database, redis: Redis, people: People) -> None:
    options = replace(FAST, message_limit=5, message_window_s=0.3)
    async with serving(database, redis, people, options) as node:
        token, _ = people.sign_in()
        client = await WsClient.open(node, token)
        for _ in range(3):
            before = len(client.of("pong"))
            await said(client, pings=5)
            assert len(client.of("pong")) == before + 5
            await asyncio.sleep(0.3)  # the window itself is what is tested
        assert not client.reader.done()
        await client.close()


async def test_one_who_is_silent_to_pings_is_taken_for_gone(database: Database, redis: Redis, people: People) -> None:
    """A phone whose network vanished: nothing comes, and nothing says so."""
    async with serving(database, redis, people, replace(FAST, ping_s=0.3)) as node:
        token, _ = people.sign_in()
        answering = await WsClient.open(node, token)
        silent = await node.session.ws_connect(node.url("/ws"), autoping=False)
        await silent.send_json({"op": "connect", "token": token})
        await reached(lambda: node.realtime.open_streams == 2)
        await reached(lambda: node.realtime.open_streams == 1, within_s=5)
        assert not answering.reader.done()
        await answering.close()
        await silent.close()


async def test_a_process_has_so_many_places_and_no_more(database: Database, redis: Redis, people: People) -> None:
    """Whoever has not said yet who it is has one too, or sockets could be had for nothing."""
    async with serving(database, redis, people, replace(FAST, max_streams=3)) as node:
        token, _ = people.sign_in()
        stream, socket = await SseClient.open(node, token), await WsClient.open(node, token)
        silent = await node.session.ws_connect(node.url("/ws"))
        with pytest.raises(WSServerHandshakeError) as refused:
            await node.session.ws_connect(node.url("/ws"))
        assert (refused.value.status, dict(refused.value.headers or {}).get("Retry-After")) == (503, "1")
        turned_away = await SseClient.open(node, token)
        assert (turned_away.response.status, turned_away.response.headers["Retry-After"]) == (503, "1")
        await turned_away.close()
        async with node.session.get(node.url("/poll"), headers={"Authorization": f"Bearer {token}"}) as polled:
            assert polled.status == 503
        await silent.close()
        await socket.close()
        await reached(lambda: node.realtime._sessions._taken == 1)
        again = await WsClient.open(node, token)
        await again.close()
        await stream.close()


async def test_a_fault_of_the_server_while_subscribing_ends_the_stream(node: Node) -> None:
    token, _ = node.people.sign_in()
    client = await WsClient.open(node, token)
    node.people.fault = LookupError("a bug")
    await client.socket.send_json({"op": "subscribe", "channels": ["payment:a"]})
    await client.ended()
    assert client.code == 1011


async def test_a_fault_of_the_server_while_opening_is_told_by_its_code(node: Node) -> None:
    token, _ = node.people.sign_in()
    node.people.fault = LookupError("a bug")
    client = await raw(node, json.dumps({"op": "connect", "token": token}))
    assert (client.code, client.messages) == (1011, [])
    node.people.fault = StorageBusy()
    client = await raw(node, json.dumps({"op": "connect", "token": token}))
    assert (client.code, client.messages[0]["code"]) == (4010, "storage.busy")


async def test_a_refusal_while_subscribing_is_told_and_the_stream_goes_on(node: Node) -> None:
    token, _ = node.people.sign_in("payment:a")
    client = await WsClient.open(node, token)
    node.people.fault = StorageBusy()
    await client.socket.send_json({"op": "subscribe", "channels": ["payment:a"]})
    await reached(lambda: client.of("error"))
    assert client.messages[-1]["code"] == "storage.busy"
    node.people.fault = None
    await client.socket.send_json({"op": "subscribe", "channels": ["payment:a"]})
    await reached(lambda: client.of("subscribed"))
    await client.close()


async def test_a_ticket_in_the_query_opens_the_stream_at_once_and_once(
    database: Database, relay: Relay, node: Node
) -> None:
    _, me = node.people.sign_in("payment:a")
    ticket = await node.realtime.tickets.issue(me)
    client = await WsClient.open(node, path=f"/ws?ticket={ticket}&channels=payment:a,payment:b")
    assert client.first["channels"] == ["payment:a"]
    assert client.first["refused"] == ["payment:b"]
    [sent] = await emit(database, signed_up(me.user_id, channels=("payment:a",)))
    await reached(lambda: client.event_ids == [sent])
    cursor = client.cursor
    await client.close()
    again = await raw(node, path=f"/ws?ticket={ticket}")
    assert (again.code, again.messages[-1]["code"]) == (4401, "auth.invalid")
    another = await node.realtime.tickets.issue(me)
    back = await WsClient.open(node, path=f"/ws?ticket={another}&cursor={cursor}")
    assert back.first["recovered"]
    await back.close()


async def test_an_expired_token_opens_nothing_that_lasts(node: Node) -> None:
    token, _ = node.people.sign_in(lives_s=-1)
    client = await WsClient.open(node, token)
    await client.ended()
    assert client.code == 4002


async def test_a_stream_is_rotated(database: Database, redis: Redis, people: People) -> None:
    async with serving(database, redis, people, replace(FAST, max_lifetime_s=0.3)) as node:
        token, _ = people.sign_in()
        client = await WsClient.open(node, token)
        await client.ended()
        assert client.code == 4001
        going_away = client.messages[-1]
        assert going_away["op"] == "going_away"
        assert FAST.reconnect_min_ms <= going_away["reconnect_after_ms"] <= FAST.reconnect_max_ms


async def test_a_revoked_session_is_shown_out_within_two_seconds(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people, replace(FAST, revocation_check_s=1.0)) as node:
        token, me = people.sign_in()
        other, _ = people.sign_in()
        client, stays = await WsClient.open(node, token), await WsClient.open(node, other)
        people.revoked.add(me.session_id)
        await reached(client.reader.done, within_s=2.0)
        assert client.code == 4401
        again = await raw(node, json.dumps({"op": "connect", "token": token}))
        assert again.code == 4401
        assert not stays.reader.done()
        await stays.close()


async def test_revocation_that_cannot_be_asked_ends_no_stream_and_is_asked_again(node: Node) -> None:
    token, me = node.people.sign_in()
    client = await WsClient.open(node, token)
    node.people.fault = OSError("away")
    await reached(lambda: node.people.asked_in_vain >= 2)
    assert not client.reader.done()
    node.people.fault = None
    node.people.revoked.add(me.session_id)
    await client.ended()
    assert client.code == 4401


async def test_a_stopping_process_says_when_to_come_back_and_lets_nobody_in(
    database: Database, redis: Redis, people: People
) -> None:
    async with serving(database, redis, people) as node:
        clients = [await WsClient.open(node, people.sign_in()[0]) for _ in range(5)]
        await node.realtime.stop()
        for client in clients:
            await client.ended()
            assert client.code == 4001
            assert client.messages[-1]["op"] == "going_away"
        assert len({client.messages[-1]["reconnect_after_ms"] for client in clients}) > 1
        with pytest.raises(WSServerHandshakeError) as refused:
            await node.session.ws_connect(node.url("/ws"))
        assert refused.value.status == 503
        await node.realtime.start()


async def test_one_who_vanishes_leaves_nothing_behind(node: Node) -> None:
    token, _ = node.people.sign_in()
    client = await WsClient.open(node, token)
    assert node.realtime.open_streams == 1
    transport = client.socket.get_extra_info("socket")
    assert transport is not None
    client.socket._response.connection.transport.abort()  # type: ignore[union-attr]
    await reached(lambda: node.realtime.open_streams == 0)
    assert node.realtime._hub._by_channel == {}
    await client.ended()
