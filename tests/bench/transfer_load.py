"""The load of transfer_bench: keep-alive connections of a process of its own, as cheap as Python makes them.

The load shares the machine with what it measures. So: plain sockets, select(2), whose timeouts are exact to the
microsecond, and requests that are put together from bytes made before.
"""

from __future__ import annotations

import gc
import json
import random
import secrets
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

CONNECTIONS = 32
ANSWER_S = 30.0


@dataclass(frozen=True)
class User:
    """Somebody with a wallet and a session."""

    id: str
    token: str


@dataclass(frozen=True)
class Load:
    """What to send. `rate` requests a second on a fixed schedule, or None: each connection as fast as it is answered.

    Everybody sends to anybody; when it is `hot`, to the last of the users; `each_once`: to the next one, and that is all.
    """

    port: int
    users: Sequence[User]
    kind: Literal["random", "hot", "each_once"]
    seconds: float
    rate: float | None = None


@dataclass(frozen=True)
class Done:
    """`answered` counts every 201, `per_second` those that came in time; latencies in seconds, sorted, since each was due."""

    answered: int
    per_second: float
    seconds: float
    latencies: list[float]
    cpu_s: float


class Connections:
    """Sockets by their file descriptors. Each has one request on its way at most."""

    def __init__(self, port: int) -> None:
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        for one in sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets = {one.fileno(): one for one in sockets}
        self._parts: dict[int, bytes] = {}
        self.free = deque(self._sockets)

    def send(self, number: int, request: bytes) -> None:
        if self._sockets[number].send(request) != len(request):
            raise RuntimeError("the server does not read")

    def answered(self, number: int) -> bool:
        """Read; whether the answer is complete. Raises RuntimeError with an answer that is not 201."""
        data = self._parts.pop(number, b"") + self._sockets[number].recv(65536)
        end = data.find(b"\r\n\r\n") + 4
        if end > 3:
            start = data.index(b"Content-Length: ", 0, end) + 16
            if len(data) == end + int(data[start : data.index(b"\r", start)]):
                if not data.startswith(b"HTTP/1.1 201 "):
                    raise RuntimeError(f"not a transfer: {data.decode('utf-8', 'replace')}")
                return True
        if not data:
            raise RuntimeError("the server closed a connection")
        self._parts[number] = data
        return False

    def close(self) -> None:
        for one in self._sockets.values():
            one.close()


def drive(load: Load) -> Done:
    """Send for as long as is asked, wait for what is on its way then. Raises RuntimeError, TimeoutError."""
    requests = _requests(load)
    connections = Connections(load.port)
    gc.collect()
    gc.disable()
    try:
        return _drive(load, connections, requests)
    finally:
        gc.enable()
        connections.close()


def _drive(load: Load, connections: Connections, requests: Iterator[bytes]) -> Done:
    free, send, answered, clock = connections.free, connections.send, connections.answered, time.perf_counter
    due_at: dict[int, float] = {}
    latencies: list[float] = []
    gap = 1 / load.rate if load.rate else 0.0
    cpu, in_time = time.process_time(), 0
    due = now = clock()
    end = due + load.seconds
    while True:
        while free and due <= now and due < end:
            request = next(requests, None)
            if request is None:
                end = due
                break
            number = free.popleft()
            send(number, request)
            due_at[number] = due
            due = due + gap if gap else clock()
            now = clock()
        if due >= end and not due_at:
            break
        # With a connection free there is a request to come; until it is due, an answer may come.
        wait = max(0.0, due - now) if free and due < end else ANSWER_S
        ready, _, _ = select.select(due_at, (), (), wait)
        if not ready and wait == ANSWER_S:
            raise TimeoutError(f"no answer within {ANSWER_S:.0f} s")
        now = clock()
        for number in ready:
            if answered(number):
                latencies.append(now - due_at.pop(number))
                free.append(number)
                in_time += now < end
        if not gap:
            due = now
    return Done(len(latencies), in_time / load.seconds, load.seconds, sorted(latencies), time.process_time() - cpu)


def _requests(load: Load) -> Iterator[bytes]:
    """Transfers of one rupee, each under a key of its own."""
    bodies = [json.dumps({"to": user.id, "amount": {"amount": "1.00", "currency": "INR"}}) for user in load.users]
    heads = [
        (
            f"POST /v1/wallet/transfers HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\nAccept: application/json\r\n"
            f"Authorization: Bearer {user.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(bodies[0])}\r\nIdempotency-Key: {secrets.token_hex(8)}-"
        ).encode()
        for user in load.users
    ]
    tails = [f"\r\n\r\n{body}".encode() for body in bodies]
    return (b"%b%d%b" % (heads[a], n, tails[b]) for n, (a, b) in enumerate(_pairs(load.kind, len(heads))))


def _pairs(kind: str, users: int) -> Iterator[tuple[int, int]]:
    """Who sends to whom."""
    draw = random.random
    if kind == "each_once":
        yield from ((user, (user + 1) % users) for user in range(users))
    while kind == "random":
        sender = int(draw() * users)
        yield sender, (sender + 1 + int(draw() * (users - 1))) % users
    while kind == "hot":
        yield int(draw() * (users - 1)), users - 1
