"""A random walk: memberships come and go while events flow; what each client has is what it might read, in order."""

from __future__ import annotations

import random
from dataclasses import replace

from redis.asyncio import Redis

from contracts import ids
from handlers.realtime.rights import ChannelRights
from storage.db import Database
from tests.integration.realtime.conftest import Real, change
from tests.streams.harness import FAST, Node, SseClient, WsClient, emit, reached, relaying, serving, signed_up

STEPS = 60


class Walk:
    """One person on both transports, and what each of the two clients must have been sent by now.

    The WebSocket takes up a channel again from now on; the event stream comes back with its cursor, and what it missed
    goes through the rights of that moment.
    """

    def __init__(self, database: Database, node: Node, dice: random.Random) -> None:
        self._database = database
        self._node = node
        self._dice = dice
        self._token, self._me = node.people.sign_in()
        self._mine = f"user:{self._me.user_id}"
        self._games = [f"activity:{ids.new('act')}" for _ in range(3)]
        self._readable: set[str] = set()
        self._log: list[tuple[str, str]] = []  # event id and channel
        self._socket_has: list[str] = []
        self._stream_has: list[str] = []
        self._seen = 0  # how much of the log the cursor of the event stream covers: it moves with events

    async def begin(self) -> None:
        self.socket = await WsClient.open(self._node, self._token, channels=[self._mine])
        self.stream = await self._open_stream()

    async def step(self) -> None:
        game = self._dice.choice(self._games)
        if self._dice.random() < 0.6:
            await self._tell(self._dice.choice([game, game, self._mine]))
        elif game in self._readable:
            await self._withdraw(game)
        else:
            await self._grant(game)

    async def check(self) -> None:
        await reached(lambda: len(self.socket.event_ids) >= len(self._socket_has), what="the socket's events")
        await reached(lambda: len(self.stream.event_ids) >= len(self._stream_has), what="the stream's events")
        assert self.socket.event_ids == self._socket_has
        assert self.stream.event_ids == self._stream_has

    async def _tell(self, channel: str) -> None:
        [event_id] = await emit(self._database, signed_up(self._me.user_id, channels=(channel,)))
        self._log.append((event_id, channel))
        if channel == self._mine or channel in self._readable:
            self._socket_has.append(event_id)
            self._stream_has.append(event_id)
            self._seen = len(self._log)
            await self.check()

    async def _withdraw(self, game: str) -> None:
        told = len(self.socket.of("unsubscribed")), len(self.stream.of("unsubscribed"))
        await change(self._database, withdrawn=[(self._me.user_id, game)])
        self._readable.discard(game)
        for client, before in zip((self.socket, self.stream), told, strict=True):
            await reached(lambda client=client, before=before: len(client.of("unsubscribed")) > before)
            assert client.of("unsubscribed")[-1]["channels"] == [game]

    async def _grant(self, game: str) -> None:
        await change(self._database, (self._me.user_id, game))
        self._readable.add(game)
        await reached(self._has_seen_all, what="the node to have seen the log")  # "from now on" is from there on
        answers = len(self.socket.of("subscribed"))
        await self.socket.socket.send_json({"op": "subscribe", "channels": [game]})
        await reached(lambda: len(self.socket.of("subscribed")) > answers)
        await self._come_back()

    async def _come_back(self) -> None:
        await self.check()
        cursor = self.stream.last_event_id
        await self.stream.close()
        allowed = {self._mine, *self._readable}
        missed = [place for place, (_, channel) in enumerate(self._log) if channel in allowed and place >= self._seen]
        self._stream_has = [self._log[place][0] for place in missed]
        self._seen = missed[-1] + 1 if missed else self._seen
        self.stream = await self._open_stream(cursor)
        assert (self.stream.first["recovered"], self.stream.first["count"]) == (True, len(missed))

    def _has_seen_all(self) -> bool:
        seen = self._node.realtime._hub.recent(0)
        return not self._log or (bool(seen) and seen[-1].entry.event_id == self._log[-1][0])

    async def _open_stream(self, cursor: str | None = None) -> SseClient:
        channels = ",".join([self._mine, *self._games])
        return await SseClient.open(self._node, self._token, last_event_id=cursor, channels=channels)


async def test_each_client_has_what_its_user_might_read(
    database: Database, redis: Redis, rights: ChannelRights
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    options = replace(FAST, revocation_check_s=0.05)
    async with relaying(database, redis), serving(database, redis, Real(rights=rights), options) as node:
        walk = Walk(database, node, random.Random(seed))
        await walk.begin()
        for _ in range(STEPS):
            await walk.step()
        await walk.check()
        await walk.socket.close()
        await walk.stream.close()
