"""Bytes on the wire: an event is encoded and framed once, and every receiver is given the same bytes.

What a connection gets at one moment is one block, so that it costs one system call however many events it holds.

CloudEvents 1.0 JSON (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md) with the
extensions `sequence`, `cursor` and `traceparent`. WebSocket: RFC 6455 §5.2, unmasked, uncompressed text frames.
SSE: WHATWG HTML §9.2.5, in chunks of HTTP/1.1 (RFC 9112 §7.1).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from streams.log import LogEntry

_TEXT = 0x81
_CLOSE = 0x88


Transport = Literal["websocket", "sse", "poll"]


class Delivery:
    """An event of the log on its way to the connections of this process.

    `cursor_at(position)` gives the cursor text. What is sent often is made when the first receiver needs it and kept
    as long as the hub remembers the event.
    """

    def __init__(self, entry: LogEntry, *, source: str, cursor_at: Callable[[int], str]) -> None:
        self.entry = entry
        self.position = entry.position
        self._source = source
        self._cursor_at = cursor_at

    @cached_property
    def cursor(self) -> str:
        return self._cursor_at(self.position)

    @cached_property
    def cloud_event(self) -> bytes:
        return encode(cloud_event(self.entry, source=self._source, cursor=self.cursor))

    @property
    def websocket_message(self) -> bytes:
        return b'{"op":"event","event":' + self.cloud_event + b"}"

    @cached_property
    def websocket(self) -> bytes:
        return text_frame(self.websocket_message)

    @cached_property
    def sse(self) -> bytes:
        return sse_block(self.cloud_event, event=self.entry.type, id=self.cursor)


class Batch:
    """Events in the order of the log that the same connections are given at once; at least one."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries = deliveries
        self.first = deliveries[0].position
        self.last = deliveries[-1].position

    @cached_property
    def websocket(self) -> bytes:
        return b"".join(delivery.websocket for delivery in self.deliveries)

    @cached_property
    def sse(self) -> bytes:
        return b"".join(delivery.sse for delivery in self.deliveries)

    @cached_property
    def sse_chunk(self) -> bytes:
        return chunk(self.sse)

    @cached_property
    def halves(self) -> tuple[Batch, Batch]:
        """Two batches instead of one of several events."""
        middle = len(self.deliveries) // 2
        return Batch(self.deliveries[:middle]), Batch(self.deliveries[middle:])

    def after(self, position: int) -> Batch | None:
        """What of it comes after a position."""
        if self.first > position:
            return self
        newer = [delivery for delivery in self.deliveries if delivery.position > position]
        return Batch(newer) if newer else None


class Framing(Protocol):
    """How one transport writes messages. A message is (JSON as the contract sees it, bytes on the wire)."""

    @property
    def transport(self) -> Transport: ...

    def events(self, batch: Batch) -> bytes:
        """The shared bytes of some events."""

    def described(self, delivery: Delivery) -> tuple[str, bytes]:
        """The event's name and JSON in events.yaml."""

    def message(self, op: str, body: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """A message that is not an event."""

    @property
    def tells_cursor(self) -> bool:
        """Whether a client whose channels are quiet is told by itself how far it has been served."""


class WebSocketFraming:
    """JSON text frames, named by their member `op`."""

    transport: ClassVar[Transport] = "websocket"
    tells_cursor: ClassVar[bool] = False  # the client asks with a ping

    def events(self, batch: Batch) -> bytes:
        return batch.websocket

    def described(self, delivery: Delivery) -> tuple[str, bytes]:
        return "event", delivery.websocket_message

    def message(self, op: str, body: Mapping[str, Any]) -> tuple[bytes, bytes]:
        payload = encode({"op": op, **body})
        return payload, text_frame(payload)


class SseFraming:
    """Blocks of an event stream; `chunked` for HTTP/1.1, where what is sent at once is a chunk of the body."""

    transport: ClassVar[Transport] = "sse"
    tells_cursor: ClassVar[bool] = True

    def __init__(self, *, chunked: bool) -> None:
        self._chunked = chunked

    def events(self, batch: Batch) -> bytes:
        return batch.sse_chunk if self._chunked else batch.sse

    def described(self, delivery: Delivery) -> tuple[str, bytes]:
        return delivery.entry.type, delivery.cloud_event

    def message(self, op: str, body: Mapping[str, Any]) -> tuple[bytes, bytes]:
        payload = encode(body)
        block = sse_block(payload, event=op, id=body.get("cursor"), retry=body.get("reconnect_after_ms"))
        return payload, chunk(block) if self._chunked else block


def cloud_event(entry: LogEntry, *, source: str, cursor: str) -> dict[str, Any]:
    """Return the CloudEvent of a log entry."""
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": entry.event_id,
        "source": source,
        "type": entry.type,
        "subject": entry.subject,
        "time": entry.happened_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": f"{entry.sequence:020d}",  # ordered as text, as the extension's specification asks
        "cursor": cursor,
        "data": entry.data,
    }
    if entry.traceparent is not None:
        envelope["traceparent"] = entry.traceparent
    return envelope


def encode(message: Mapping[str, Any]) -> bytes:
    """JSON as UTF-8 on one line. The standard library's: it writes back every number that jsonb can hold."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def text_frame(payload: bytes) -> bytes:
    """A whole, final, unmasked text frame."""
    return _frame(_TEXT, payload)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; `reason` is at most 123 bytes."""
    return _frame(_CLOSE, struct.pack(">H", code) + reason.encode())


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack(">BB", first, size) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", first, 126, size) + payload
    return struct.pack(">BBQ", first, 127, size) + payload


def sse_block(
    data: bytes | None, *, event: str | None = None, id: str | None = None, retry: int | None = None
) -> bytes:
    """One block of an event stream. `data` is one line; without it a browser takes over id and retry in silence."""
    lines = []
    if id is not None:
        lines.append(b"id: " + id.encode())
    if event is not None:
        lines.append(b"event: " + event.encode())
    if retry is not None:
        lines.append(b"retry: %d" % retry)
    if data is not None:
        lines.append(b"data: " + data)
    return b"\n".join(lines) + b"\n\n"


def chunk(block: bytes) -> bytes:
    """A block as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(block), block)
