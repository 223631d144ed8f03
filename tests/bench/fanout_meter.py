"""A meter of deliveries: subscribers on raw sockets, one epoll, and as little work for each event as there can be.

An event's data begins with `"t":<when it was due>`, in milliseconds of the machine's monotonic clock. Every event is
counted. Latency is taken from the first event of each read, which is its oldest, and stands for all events of that read.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

MARK = b'"t":'
READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Counted:
    """What arrived in one step."""

    events: int
    reads: int
    p50_ms: float
    p99_ms: float


class Meter:
    """Open subscribers, read until enough has come."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._poll = select.epoll()

    def __len__(self) -> int:
        return len(self._sockets)

    def websocket(self, port: int, *, user: str, channels: Sequence[str], cursor: str | None = None) -> bytes:
        """Open a stream and return what it said up to `welcome`."""
        opened = _connect(port)
        key = base64.b64encode(os.urandom(16)).decode()
        opened.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        _read_until(opened, b"\r\n\r\n")
        connect = {"op": "connect", "token": user, "channels": list(channels)}
        opened.sendall(_masked(json.dumps(connect if cursor is None else {**connect, "cursor": cursor}).encode()))
        return self._add(opened, _read_until(opened, b'"channels":'))

    def events(self, port: int, *, user: str, channels: Sequence[str], cursor: str | None = None) -> bytes:
        """Open an event stream and return what it said up to `ready`."""
        opened = _connect(port)
        resume = "" if cursor is None else f"Last-Event-ID: {cursor}\r\n"
        opened.sendall(
            f"GET /sse?user={user}&channels={','.join(channels)} HTTP/1.1\r\nHost: 127.0.0.1\r\n{resume}\r\n".encode()
        )
        return self._add(opened, _read_until(opened, b'"channels":'))

    def count(self, expected: int, *, within_s: float) -> Counted:
        """Read until so many events have come, or the time is over."""
        deadline = time.monotonic() + within_s
        events = reads = 0
        samples: list[tuple[float, int]] = []
        sockets, tails, poll = self._sockets, self._tails, self._poll
        while events < expected and (left := deadline - time.monotonic()) > 0:
            for number, _ in poll.poll(left):
                data = tails[number] + sockets[number].recv(READ_BYTES)
                tails[number] = data[-len(MARK) + 1 :]
                found = data.count(MARK)
                if found:
                    reads += 1
                    events += found
                    at = data.index(MARK) + len(MARK)
                    end = data.find(b",", at)
                    if end > 0:
                        samples.append((time.monotonic() * 1000 - float(data[at:end]), found))
        return Counted(events, reads, _quantile(samples, 0.50), _quantile(samples, 0.99))

    def close(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()
        self._tails.clear()
        self._poll.close()
        self._poll = select.epoll()

    def _add(self, opened: socket.socket, said: bytes) -> bytes:
        self._sockets[opened.fileno()] = opened
        self._tails[opened.fileno()] = b""
        self._poll.register(opened.fileno(), select.EPOLLIN)
        return said


def _connect(port: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=30)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def _read_until(opened: socket.socket, mark: bytes) -> bytes:
    said = b""
    while mark not in said:
        piece = opened.recv(65536)
        if not piece:
            raise ConnectionError(said.decode(errors="replace"))
        said += piece
    return said


def _masked(payload: bytes) -> bytes:
    """A client's text frame (RFC 6455 §5.2) whose mask is zero."""
    size = len(payload)
    head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


def _quantile(samples: list[tuple[float, int]], share: float) -> float:
    """Of latencies that stand for so many events each."""
    total = sum(weight for _, weight in samples)
    passed = 0
    for latency, weight in sorted(samples):
        passed += weight
        if passed >= total * share:
            return latency
    return float("nan")
