"""A client that may be killed at any moment: it writes down what it wants before it asks, and what it was answered after.

Run as a program with a JSON document of its arguments (see `tests/flows/bank.py`). It first settles what its book left open:
the same request with the same key, until there is an answer. Standard library only, so that it is back quickly.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from typing import Any

PATIENCE_S = 10.0
PAUSE_S = 0.02
SETTLED = (201, 422)


class Book:
    """The client's own book: one JSON line for each thing that happened, written in one piece."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.open: dict[str, dict[str, Any]] = {}
        with open(path, encoding="utf-8") as lines:
            for line in map(json.loads, lines):
                if line["what"] == "wanted":
                    self.open[line["key"]] = line
                elif line["what"] == "answered":
                    del self.open[line["key"]]
        for key in self.open:
            self.write("lost", key=key, reason="killed")

    def write(self, what: str, **facts: Any) -> None:
        os.write(self._file, json.dumps({"what": what, **facts}).encode() + b"\n")


class Connection:
    """HTTP/1.1 on one socket. Raises OSError when an answer does not come, whatever the reason."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._address = (host, port)
        self._token = token
        self._socket: socket.socket | None = None

    def post(self, path: str, key: str, body: bytes) -> tuple[int, bool, Any]:
        """Status, whether the answer is a replay, document."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, PATIENCE_S)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {self._token}\r\nIdempotency-Key: {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self._socket.sendall(head.encode() + body)
            return self._answer(self._socket)
        except OSError:
            self.close()
            raise

    def _answer(self, sock: socket.socket) -> tuple[int, bool, Any]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        while len(body) < int(headers["content-length"]):
            body += self._more(sock)
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), "idempotent-replayed" in headers, json.loads(body)

    def _more(self, sock: socket.socket) -> bytes:
        data = sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError("no answer")
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def settle(wanted: dict[str, Any], book: Book, connection: Connection) -> None:
    """Ask, with the same key, until there is an answer. Raises SystemExit for one that no client understands."""
    body = json.dumps(wanted["body"]).encode()
    while True:
        try:
            status, replayed, document = connection.post("/v1/wallet/transfers", wanted["key"], body)
        except OSError as fault:
            book.write("lost", key=wanted["key"], reason=type(fault).__name__)
        else:
            if status in SETTLED:
                book.write("answered", key=wanted["key"], status=status, replayed=replayed, document=document)
                return
            book.write("lost", key=wanted["key"], reason=f"{status} {document.get('code')}")
            if status != 503:
                raise SystemExit(f"an answer that nobody understands: {status} {document}")
        time.sleep(PAUSE_S)


def main() -> None:
    told = json.loads(sys.argv[1])
    dice = random.Random(told["seed"])
    book = Book(told["book"])
    connection = Connection(told["host"], told["port"], told["token"])
    for wanted in list(book.open.values()):
        settle(wanted, book, connection)
    while not told["finish"]:
        amount = f"{dice.randrange(100)}.{dice.randrange(1, 100):02}"
        body = {"to": dice.choice(told["others"]), "amount": {"amount": amount, "currency": "INR"}}
        wanted = {"key": f"{told['name']}-{dice.getrandbits(64):016x}", "body": body}
        book.write("wanted", **wanted)
        settle(wanted, book, connection)


if __name__ == "__main__":
    main()
