"""What commits arrives, what rolls back does not, in commit order, on both transports."""

from __future__ import annotations

from storage.db import Database
from streams.relay import Relay
from tests.streams.harness import Node, SseClient, WsClient, emit, reached, signed_up


async def test_an_event_reaches_both_transports_byte_for_byte(database: Database, relay: Relay, node: Node) -> None:
    token, principal = node.people.sign_in()
    socket = await WsClient.open(node, token)
    stream = await SseClient.open(node, token)
    sent = await emit(database, signed_up(principal.user_id), signed_up(principal.user_id))

    await reached(lambda: len(socket.event_ids) == len(stream.event_ids) == 2)

    assert socket.event_ids == stream.event_ids == sent
    assert [message["event"] for message in socket.of("event")] == stream.events
    first, second = stream.events
    assert first["sequence"] < second["sequence"]
    assert stream.last_event_id == second["cursor"]
    await socket.close()
    await stream.close()
