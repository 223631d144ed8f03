"""A client that does what contracts/events.yaml asks of one, on either transport, and writes down what it was given."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import ClientError, ClientSession, ClientTimeout, ClientWSTimeout, WSMsgType

from streams.connection import Close
from streams.cursor import CursorCodec
from streams.log import SHARD, LogEntry

CONNECT_S = 5.0
SILENCE_S = 3.0  # a stream that answers no ping, or sends none, for so long is dead
AGAIN_S = 0.05
PING_EVERY = 40  # events, so that the cursors of pongs are used as well
REPLAY_EVENTS, REPLAY_BYTES = 300, 1024 * 1024  # contracts/events.yaml, "Resume"
COME_BACK = {None, 1006, 4001, 4002, 4008, 4010}

POLL_S = 2

Transport = Literal["websocket", "sse", "poll"]
# (after, upto, channels) -> what a client that loads state would find there
Load = Callable[[int, int, frozenset[str]], Awaitable[list[LogEntry]]]
Message = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Got:
    """One event as a client knows it."""

    id: str
    type: str
    data: str
    sequence: int

    @classmethod
    def sent(cls, event: dict[str, Any]) -> Got:
        return cls(event["id"], event["type"], json.dumps(event["data"], sort_keys=True), int(event["sequence"]))

    @classmethod
    def logged(cls, entry: LogEntry) -> Got:
        return cls(entry.event_id, entry.type, json.dumps(entry.data, sort_keys=True), entry.sequence)


class Reader:
    """One client with a set of channels. `got` is what it has, `faults` is what the contract does not allow."""

    def __init__(
        self, transport: Transport, channels: frozenset[str], addresses: Sequence[str], *, cursors: CursorCodec,
        load: Load, dice: random.Random, window: int,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.channels = channels
        self.got: list[Got] = []
        self.faults: list[str] = []
        self.count: Counter[str] = Counter()
        self.newest_sequence = 0
        self._addresses = addresses
        self._cursors = cursors
        self._load = load
        self._dice = dice
        self._window = window
        self._cursor: str | None = None
        self._seen: set[str] = set()
        self._repeating = False  # nothing new has come on this connection yet
        self._wait_s = AGAIN_S

    async def run(self) -> None:
        """Connect, read, come back, until cancelled."""
        async with ClientSession() as session:
            while True:
                self._wait_s, self._repeating = AGAIN_S, True
                try:
                    await self._read(session, self._dice.choice(self._addresses))
                except (ClientError, OSError, TimeoutError) as fault:
                    self.count[f"lost {type(fault).__name__}"] += 1
                await asyncio.sleep(self._wait_s)

    async def _read(self, session: ClientSession, address: str) -> None:
        streams = {"websocket": self._websocket, "sse": self._event_stream, "poll": self._polls}
        async with aclosing(streams[self.transport](session, address)) as messages:
            async for name, body in messages:
                await self._take(name, body)

    async def _take(self, name: str, body: dict[str, Any]) -> None:
        match name:
            case "welcome" | "ready" | "answer":
                await self._opened(body)
            case "going_away":
                self._closed(body["code"])
                self._wait_s = (body["reconnect_after_ms"] or 0) / 1000 or AGAIN_S
            case "pong" | "cursor" | "moved":
                self._cursor = body["cursor"]
            case "error" | "refused":
                self.count[f"refused {body['code']}"] += 1
                if body["code"] not in ("storage.busy", "service.unavailable"):
                    self.faults.append(f"refused: {body}")
            case _ if name == "event" or "." in name:
                self._event(body)
            case _:
                self.count[f"told {name}"] += 1

    def _closed(self, code: int | None) -> None:
        self.count[f"closed {code}"] += 1
        if code not in COME_BACK:
            self.faults.append(f"closed with {code}")

    def _event(self, event: dict[str, Any]) -> None:
        self.count["events"] += 1
        if event["id"] in self._seen:
            self.count["repeats"] += 1
            if not self._repeating:
                self.faults.append(f"repeated in the middle of a connection: {event['id']}")
        else:
            self._repeating = False
            self._keep(Got.sent(event))
        self._cursor = event["cursor"]

    def _keep(self, got: Got) -> None:
        if got.sequence <= self.newest_sequence:
            self.faults.append(f"out of order: {got.id}")
        self.newest_sequence = got.sequence
        self._seen.add(got.id)
        self.got.append(got)

    async def _opened(self, body: dict[str, Any]) -> None:
        self.count["opened"] += 1
        if set(body["channels"]) != self.channels or body["refused"]:
            self.faults.append(f"other channels than asked for: {body}")
        if body["recovered"]:
            self.count["replays"] += 1
            self.count["replayed"] += body["count"]
        else:
            await self._load_state(body["cursor"], body["reason"])
        self._cursor = body["cursor"]

    async def _load_state(self, cursor: str, reason: str) -> None:
        """What a client does that was told to load: here its state is every event of its channels."""
        after, upto = 0 if self._cursor is None else self._position(self._cursor), self._position(cursor)
        entries = await self._load(after, upto, self.channels)
        size = sum(len(json.dumps(entry.data)) for entry in entries)
        allowed = {
            "new": self._cursor is None,
            "too_many": len(entries) > REPLAY_EVENTS or size > REPLAY_BYTES // 4,
            "expired": upto - after > self._window,
        }
        self.count[f"loads {reason}"] += 1
        self.count["loaded"] += len(entries)
        if not allowed.get(reason, False):
            self.faults.append(
                f"not recovered for no reason: {reason}, {upto - after} positions, {len(entries)} events"
            )
        for entry in entries:
            self._keep(Got.logged(entry))

    def _position(self, cursor: str) -> int:
        return self._cursors.decode(cursor).positions[SHARD]

    async def _websocket(self, session: ClientSession, address: str) -> AsyncIterator[Message]:
        async with asyncio.timeout(CONNECT_S):
            socket = await session.ws_connect(f"{address}/ws", max_msg_size=0, timeout=ClientWSTimeout(ws_close=0.2))
        async with socket:
            connect = {"op": "connect", "token": "anybody", "channels": sorted(self.channels)}
            await socket.send_json(connect if self._cursor is None else {**connect, "cursor": self._cursor})
            asked, events = True, 0
            while True:
                try:
                    message = await socket.receive(timeout=SILENCE_S / 2 if asked else SILENCE_S / 4)
                except TimeoutError:
                    if asked:
                        raise
                    await socket.send_json({"op": "ping"})
                    asked = True
                    continue
                if message.type is not WSMsgType.TEXT:
                    break
                body = json.loads(message.data)
                asked = False
                yield body["op"], body["event"] if body["op"] == "event" else body
                events += body["op"] == "event"
                if events == PING_EVERY:
                    events = 0
                    await socket.send_json({"op": "ping"})
        if socket.close_code != Close.GOING_AWAY:  # which was announced
            self._closed(socket.close_code)

    async def _event_stream(self, session: ClientSession, address: str) -> AsyncIterator[Message]:
        headers = {"Authorization": "Bearer anybody"}
        if self._cursor is not None:
            headers["Last-Event-ID"] = self._cursor
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        query = {"channels": ",".join(sorted(self.channels))}
        async with session.get(f"{address}/sse", headers=headers, params=query, timeout=timeout) as response:
            if response.status != 200:
                yield "refused", await response.json()
                return
            block: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\r\n")
                name, _, value = line.partition(": ")
                if line:
                    block[name] = value
                    continue
                if "data" in block:
                    yield block["event"], json.loads(block["data"])
                block = {}

    async def _polls(self, session: ClientSession, address: str) -> AsyncIterator[Message]:
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=POLL_S + SILENCE_S)
        while True:
            query = {"channels": ",".join(sorted(self.channels)), "wait_s": str(POLL_S)}
            if self._cursor is not None:
                query["cursor"] = self._cursor
            headers = {"Authorization": "Bearer anybody"}
            async with session.get(f"{address}/poll", headers=headers, params=query, timeout=timeout) as response:
                body = await response.json()
            if response.status != 200:
                yield "refused", body
                return
            if len(body["events"]) != (body["count"] if body["recovered"] else 0):
                self.faults.append(f"other events than counted: {body}")
            yield "answer", body
            for event in body["events"]:
                yield "event", event
            yield "moved", body
