"""Random walks of clients between two nodes: whatever they do, what they are sent is the log of their channels.

FUZZ_SEED says which walk. Rings and windows are small, so that every way of resuming is taken many times.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from socket import SHUT_RDWR
from typing import Any

import pytest
from redis.asyncio import Redis

from storage import redis as storage_redis
from storage.db import Database
from streams.cursor import CursorCodec
from streams.log import SHARD, LogEntry
from streams.relay import Relay
from tests.streams.harness import (
    FAST,
    SECRETS,
    Node,
    People,
    SseClient,
    WsClient,
    emit,
    reached,
    serving,
    settled,
    signed_up,
    user_id,
)

WALKERS, VISITS = 8, 40
EVENTS_A_SECOND = 250
ROLLED_BACK = 0.15
OPTIONS = replace(FAST, hub_ring=24, replay_events=10, replay_window=150, hub_poll_s=0.3, ping_s=0.1)
PATHS = {
    "new", "ring", "log", "expired", "too_many", "ahead of the node", "changed channels", "nothing missed",
    "websocket", "sse", "poll",
}  # fmt: skip
CURSORS = CursorCodec(SECRETS)


def position(cursor: str) -> int:
    return CURSORS.decode(cursor).positions[SHARD]


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection: how it was opened, between which positions its node stood then, and all that it was sent."""

    transport: str
    cursor: str | None
    channels: frozenset[str]
    before: int
    after: int
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class Judge:
    """Holds visits to the log. `paths` are the ways of resuming that were taken."""

    def __init__(self, log: list[LogEntry]) -> None:
        self._log = log
        self.paths: Counter[str] = Counter()

    def judge(self, visit: Visit) -> None:
        first = visit.messages[0][1]
        assert set(first["channels"]) == visit.channels
        if first["recovered"]:
            assert visit.cursor is not None
            at = position(visit.cursor)
            self._replayed(visit, at, first["count"])
        else:
            at = position(first["cursor"])
            self._not_replayed(visit, first["reason"])
        channels: Collection[str] = visit.channels
        for name, body in visit.messages[1:]:
            if name == "event":
                entry = self._next(at, channels)
                assert entry is not None
                assert (entry.event_id, entry.position) == (body["id"], position(body["cursor"]))
                at = entry.position
                continue
            # everything up to this cursor was sent before it
            upto = position(body["cursor"])
            assert self._between(at, upto, channels) == 0
            at = max(at, upto)
            if name == "subscribed":
                channels = body["channels"]
                self.paths["changed channels"] += 1
        self.paths[visit.transport] += 1

    def _replayed(self, visit: Visit, since: int, count: int) -> None:
        least = self._between(since, visit.before, visit.channels)
        assert least <= count <= self._between(since, visit.after, visit.channels)
        assert count <= OPTIONS.replay_events
        behind = visit.after - since
        names = [name for name, _ in visit.messages]
        if "pong" in names:
            assert names[: names.index("pong")].count("event") >= count
        if since > visit.before:
            self.paths["ahead of the node"] += 1
        if count == 0:
            self.paths["nothing missed"] += 1
        else:
            assert visit.before - since <= OPTIONS.replay_window
            self.paths["ring" if behind <= OPTIONS.hub_ring else "log"] += 1

    def _not_replayed(self, visit: Visit, reason: str) -> None:
        self.paths[reason] += 1
        if reason == "new":
            assert visit.cursor is None
            return
        assert visit.cursor is not None
        since = position(visit.cursor)
        if reason == "expired":
            assert visit.after - since > OPTIONS.replay_window
        else:
            assert reason == "too_many"
            assert self._between(since, visit.after, visit.channels) > OPTIONS.replay_events

    def _next(self, after: int, channels: Collection[str]) -> LogEntry | None:
        return next((e for e in self._log[after:] if not set(channels).isdisjoint(e.channels)), None)

    def _between(self, after: int, upto: int, channels: Collection[str]) -> int:
        return sum(not set(channels).isdisjoint(entry.channels) for entry in self._log[after:upto])


class Walk:
    """Clients that come and go on two nodes while events are committed and rolled back."""

    def __init__(self, dice: random.Random, nodes: list[Node], database: Database, people: People) -> None:
        self._dice = dice
        self._nodes = nodes
        self._database = database
        self._users = [user_id() for _ in range(6)]
        self.channels = [f"user:{user}" for user in self._users]
        self._token, _ = people.sign_in(*self.channels)
        self.cursors: list[str] = []
        self.visits: list[Visit] = []

    async def run(self) -> None:
        writing = asyncio.create_task(self._write())
        try:
            await asyncio.gather(*(asyncio.create_task(self._walk()) for _ in range(WALKERS)))
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            users = self._dice.choices(self._users, k=self._dice.randint(1, 4))
            with suppress(ZeroDivisionError):
                async with self._database.transaction():
                    await emit(self._database, *map(signed_up, users))
                    if self._dice.random() < ROLLED_BACK:
                        raise ZeroDivisionError
            await asyncio.sleep(len(users) / EVENTS_A_SECOND)

    async def _walk(self) -> None:
        cursor: str | None = None
        for _ in range(VISITS):
            if self.cursors and self._dice.random() < 0.4:
                # somebody's cursor, of just now or of long ago
                cursor = self._dice.choice(self.cursors[-self._dice.choice((40, len(self.cursors))) :])
            elif self._dice.random() < 0.05:
                cursor = None
            visit = await self._visit(cursor)
            cursor = [body["cursor"] for _, body in visit.messages][-1]
            self.cursors += [body["cursor"] for _, body in visit.messages]
            self.visits.append(visit)
            await asyncio.sleep(self._dice.choice((0, 0, 0.1, 0.3)))

    async def _visit(self, cursor: str | None) -> Visit:
        channels = frozenset(self._dice.sample(self.channels, self._dice.randint(1, 3)))
        visit = self._dice.choice((self._websocket, self._sse, self._poll))
        return await visit(self._dice.choice(self._nodes), cursor, channels)

    async def _websocket(self, node: Node, cursor: str | None, channels: frozenset[str]) -> Visit:
        before = position(node.realtime.cursor)
        chosen = {} if cursor is None else {"cursor": cursor}
        client = await WsClient.open(node, self._token, channels=sorted(channels), **chosen)
        visit = Visit("websocket", cursor, channels, before, position(node.realtime.cursor))
        await self._talk(client)
        await self._leave(client)
        visit.messages.extend((m["op"], m["event"] if m["op"] == "event" else m) for m in client.messages)
        return visit

    async def _sse(self, node: Node, cursor: str | None, channels: frozenset[str]) -> Visit:
        before = position(node.realtime.cursor)
        client = await SseClient.open(node, self._token, last_event_id=cursor, channels=",".join(sorted(channels)))
        visit = Visit("sse", cursor, channels, before, position(node.realtime.cursor))
        await self._wait_for(lambda: len(client.blocks))
        await client.close()
        visit.messages.append(("ready", client.first))
        visit.messages.extend(("event", event) for event in client.events)
        assert len(visit.messages) == len([block for block in client.blocks if block["event"] != "cursor"])
        visit.messages.append(("moved", {"cursor": client.last_event_id}))
        return visit

    async def _poll(self, node: Node, cursor: str | None, channels: frozenset[str]) -> Visit:
        before = position(node.realtime.cursor)
        query = {"channels": ",".join(sorted(channels)), "wait_s": str(self._dice.choice((0, 0.1)))}
        if cursor is not None:
            query["cursor"] = cursor
        headers = {"Authorization": f"Bearer {self._token}"}
        async with node.session.get(node.url("/poll"), params=query, headers=headers) as response:
            answer = await response.json()
        visit = Visit("poll", cursor, channels, before, position(node.realtime.cursor))
        assert len(answer["events"]) == (answer["count"] if answer["recovered"] else 0)
        visit.messages.append(("answer", answer))
        visit.messages.extend(("event", event) for event in answer["events"])
        visit.messages.append(("moved", answer))
        return visit

    async def _talk(self, client: WsClient) -> None:
        """Change channels, ask for the cursor, or only listen; each answer is waited for, or not."""
        for _ in range(self._dice.randint(0, 3)):
            op = self._dice.choice(("subscribe", "unsubscribe", "ping", "listen"))
            if op == "listen":
                await self._wait_for(lambda: len(client.messages))
                continue
            body = {} if op == "ping" else {"channels": self._dice.sample(self.channels, self._dice.randint(1, 2))}
            answer = "pong" if op == "ping" else "subscribed"
            known = len(client.of(answer))
            await client.socket.send_json({"op": op, **body})
            if self._dice.random() < 0.8:
                await reached(lambda a=answer, k=known: len(client.of(a)) > k, what=answer)

    async def _wait_for(self, count: Any) -> None:
        """A few messages more, or a moment without them."""
        wanted = count() + self._dice.randint(0, 5)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._dice.uniform(0, 0.15)):
                while count() < wanted:
                    await asyncio.sleep(0.002)

    async def _leave(self, client: WsClient) -> None:
        """With a close frame, or as a phone does in a lift."""
        if self._dice.random() < 0.5:
            await client.close()
        else:
            client.socket.get_extra_info("socket").shutdown(SHUT_RDWR)
            await client.ended()


async def test_clients_are_sent_the_log_of_their_channels_wherever_and_however_they_come_back(
    database: Database, redis: Redis, relay: Relay, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(2**32)
    nobody = storage_redis.connect("unix:///nowhere")  # the second node is woken by its timer alone, so it is behind
    async with (
        serving(database, redis, people, OPTIONS) as ahead,
        serving(database, nobody, people, OPTIONS) as behind,
    ):
        walk = Walk(random.Random(seed), [ahead, behind], database, people)
        await walk.run()
    await nobody.aclose()
    log = await settled(database)
    judge = Judge(log)
    for visit in walk.visits:
        judge.judge(visit)
    with capsys.disabled():
        print(f"\nseed {seed}: {len(log)} events, {len(walk.visits)} connections, {dict(sorted(judge.paths.items()))}")
    assert judge.paths.keys() >= PATHS
