from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from streams.frames import Batch, Delivery, SseFraming, WebSocketFraming, chunk, close_frame, sse_block, text_frame
from streams.log import LogEntry


def delivery(**changes: object) -> Delivery:
    fields: dict[str, object] = {
        "shard": 0, "position": 7, "event_id": "evt_01jd4q2m8vh5z1x9e7d3q2n8wb", "type": "user.signed_up",
        "subject": "usr_01jd4q2m8sf3x9v7c5b1n0k6tz", "channels": ("user:usr_01jd4q2m8sf3x9v7c5b1n0k6tz",),
        "data": {"name": "Zoë\nनमस्ते \u2028"}, "sequence": 1795339800000000, "traceparent": None,
        "happened_at": datetime(2026, 11, 22, 15, 0, 0, 120000, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    }  # fmt: skip
    return Delivery(LogEntry(**{**fields, **changes}), source="/matchday", cursor_at=lambda position: f"c{position}")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_text_frame_has_the_length_that_rfc_6455_wants(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    if size < 126:
        assert (frame[1], len(frame)) == (size, 2 + size)
    elif size < 65536:
        assert (frame[1], int.from_bytes(frame[2:4]), len(frame)) == (126, size, 4 + size)
    else:
        assert (frame[1], int.from_bytes(frame[2:10]), len(frame)) == (127, size, 10 + size)


def test_a_close_frame_carries_code_and_reason() -> None:
    assert close_frame(4008, "slow") == b"\x88\x06\x0f\xa8slow"


def test_both_transports_carry_the_same_cloud_event() -> None:
    sent = delivery()
    event = json.loads(sent.cloud_event)
    assert event["time"] == "2026-11-22T09:30:00.120000Z"
    assert event["sequence"] == "00001795339800000000"
    assert event["cursor"] == "c7"
    assert "traceparent" not in event
    assert json.loads(sent.websocket_message) == {"op": "event", "event": event}
    assert sent.websocket.endswith(sent.websocket_message)
    assert f"data: {sent.cloud_event.decode()}\n\n".encode() in sent.sse


def test_an_event_of_any_text_stays_one_line_of_an_event_stream() -> None:
    lines = delivery().sse.split(b"\n")
    assert [line.split(b":")[0] for line in lines] == [b"id", b"event", b"data", b"", b""]


def test_a_trace_is_handed_on() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert json.loads(delivery(traceparent=trace).cloud_event)["traceparent"] == trace


def test_encodings_are_made_once_and_shared() -> None:
    sent = delivery()
    assert sent.websocket is sent.websocket
    assert sent.sse is sent.sse
    batch = Batch([sent])
    assert WebSocketFraming().events(batch) is batch.websocket
    assert SseFraming(chunked=True).events(batch) is batch.sse_chunk
    assert chunk(SseFraming(chunked=False).events(batch)) == batch.sse_chunk


def test_a_batch_is_its_events_one_after_the_other() -> None:
    events = [delivery(position=position) for position in (7, 8, 11)]
    batch = Batch(events)
    assert batch.websocket == b"".join(event.websocket for event in events)
    assert batch.sse_chunk == chunk(b"".join(event.sse for event in events))


def test_a_batch_is_cut_behind_a_position() -> None:
    batch = Batch([delivery(position=position) for position in (7, 8, 11)])
    assert batch.after(6) is batch
    newer = batch.after(8)
    assert newer is not None
    assert [event.position for event in newer.deliveries] == [11]
    assert batch.after(11) is None


def test_a_chunk_says_its_length_in_hexadecimal() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_a_block_without_data_only_moves_id_and_retry() -> None:
    assert sse_block(None, id="c9", retry=1500) == b"id: c9\nretry: 1500\n\n"


def test_an_event_stream_tells_when_to_come_back() -> None:
    payload, block = SseFraming(chunked=False).message("going_away", {"code": 4001, "reconnect_after_ms": 900})
    assert json.loads(payload) == {"code": 4001, "reconnect_after_ms": 900}
    assert block.startswith(b"event: going_away\nretry: 900\n")
