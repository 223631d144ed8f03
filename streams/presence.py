"""Presence: who has a channel in an open stream, on any node; told at most once a second, and asked over REST.

    hub.connections ──(once a second what has changed, every few seconds all)──▶ Redis, with an expiry
    Redis ──(once a second, the channels that somebody here has)──▶ `presence` to whoever has not heard that yet

A node writes one set of users for each of its channels, and its own name among the living. All of it expires, so the
people of a node that was killed are gone `presence_ttl_s` later. People are counted, not streams. Presence is a state:
a message says all of it and takes the place of one that still waits. Without Redis it is unknown, and that is all:
nothing is told until every node has had the time to write again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from contracts.errors import NotFound, Unavailable
from storage.redis import Redis, RedisError
from streams.admission import PresenceDetail, Rights
from streams.connection import Connection
from streams.hub import Hub
from streams.options import StreamOptions
from streams.wakeups import raise_if_cancelled

logger = logging.getLogger(__name__)

MAX_MEMBERS = 100  # more are counted and not told
REDIS_TIMEOUT_S = 2.0
CHUNK = 100  # channels that one script works on: Redis serves nobody else meanwhile

NODES = "streams:presence"
# The sets are named NODES:<channel>:<node>; the clock is that of Redis. Returns 1 for a node that was not among the
# living.
_WRITE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local added = redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for _, row in ipairs(cjson.decode(ARGV[3])) do
  local key = KEYS[1] .. ':' .. row[1] .. ':' .. ARGV[1]
  redis.call('DEL', key)
  for i = 2, #row do redis.call('SADD', key, row[i]) end
  redis.call('PEXPIRE', key, ARGV[2])
end
return added
"""
# For each [channel, most members] of the JSON: [count, member, member …]; nothing when the asking node is not among the
# living, although it was: then who else is there is not known either.
_READ = """
if ARGV[2] ~= '' and not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return false end
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1)
local answer = {}
for i, asked in ipairs(cjson.decode(ARGV[1])) do
  local keys, people = {}, {}
  for j, node in ipairs(nodes) do keys[j] = KEYS[1] .. ':' .. asked[1] .. ':' .. node end
  if #keys > 0 then people = redis.call('SUNION', unpack(keys)) end
  answer[i] = {#people}
  for j = 1, math.min(#people, asked[2]) do answer[i][j + 1] = people[j] end
end
return cjson.encode(answer)
"""


class NoPresence(NotFound):
    """A channel that does not exist, or that does not tell who is there."""

    code, title = "realtime.no_presence", "This channel has no presence"


class RegisterLost(Exception):
    """Redis does not remember this node: what the others wrote may be gone as well."""


@dataclass(frozen=True, slots=True)
class Attendance:
    """How many people have a channel in a stream, and at most `MAX_MEMBERS` of them by id; None where only counted."""

    count: int
    members: list[str] | None

    @property
    def is_truncated(self) -> bool:
        """Whether there are more people than `members` has."""
        return self.members is not None and len(self.members) < self.count


class Register:
    """What all nodes know of who is where: sets of users in Redis.

    Raises RedisError and OSError, and RegisterLost when Redis has forgotten that it was told before.
    """

    def __init__(self, redis: Redis, options: StreamOptions) -> None:
        self._redis = redis
        self._ttl_ms = int(options.presence_ttl_s * 1000)
        self._heartbeat_s = options.presence_heartbeat_s
        self._node = secrets.token_hex(8)
        self._written: Mapping[str, frozenset[str]] = {}
        self._is_written = False  # whether Redis has it, as far as we know
        self._all_written_at = 0.0

    async def write(self, here: Mapping[str, frozenset[str]]) -> None:
        """Say who is on this node, by channel."""
        if not here and not self._written:
            self._is_written = False  # nothing is kept alive: by the next time, our name will have expired
            return
        now = asyncio.get_running_loop().time()
        known, self._is_written = self._is_written, False
        is_all_due = not known or now - self._all_written_at >= self._heartbeat_s
        rows = [[channel] for channel in self._written.keys() - here.keys()]
        rows += [
            [channel, *users] for channel, users in here.items() if is_all_due or users != self._written.get(channel)
        ]
        pipe = self._redis.pipeline(transaction=False)
        for chunk in _chunks(rows) or [[]]:
            pipe.eval(_WRITE, 1, NODES, self._node, self._ttl_ms, orjson.dumps(chunk))
        was_unknown = any(await pipe.execute())
        if known and was_unknown:
            raise RegisterLost
        self._written, self._is_written = here, True
        if is_all_due:
            self._all_written_at = now

    async def read(self, asked: Mapping[str, PresenceDetail | None]) -> dict[str, Attendance]:
        """Return who is on each channel, anywhere, in as much detail as is asked for."""
        rows = [(channel, MAX_MEMBERS if detail == "members" else 0) for channel, detail in asked.items()]
        pipe = self._redis.pipeline(transaction=False)
        for chunk in _chunks(rows):
            pipe.eval(_READ, 1, NODES, orjson.dumps(chunk), self._node if self._written else "")
        replies = await pipe.execute()
        if None in replies:
            raise RegisterLost
        answers = [row for reply in replies for row in orjson.loads(reply)]
        return {
            channel: Attendance(count, sorted(members) if detail == "members" else None)
            for (channel, detail), (count, *members) in zip(asked.items(), answers, strict=True)
        }

    async def leave(self) -> None:
        """Take this node and its people out."""
        await self.write({})
        await self._redis.zrem(NODES, self._node)


@dataclass(frozen=True, slots=True)
class _Told:
    """What was said of a channel, to whom, and when it was read."""

    body: dict[str, Any]
    heard_by: frozenset[Connection]
    read_at: float


class Presence:
    """The presence of this process's connections, and what they are told of everybody's."""

    def __init__(self, redis: Redis, hub: Hub, rights: Rights, options: StreamOptions) -> None:
        self._hub = hub
        self._rights = rights
        self._options = options
        self._register = Register(redis, options)
        self._told: dict[str, _Told] = {}
        self._unknown_until = 0.0

    async def run(self) -> None:
        """Write, read and tell until cancelled, then take this node's people out."""
        try:
            while True:
                await asyncio.sleep(self._options.presence_tick_s)
                await self._tick_or_doubt()
                raise_if_cancelled()
        finally:
            await self._leave()

    async def of(self, channel: str) -> Attendance:
        """Return who is on a channel now. Raises Unavailable while that is unknown."""
        if asyncio.get_running_loop().time() < self._unknown_until:
            raise Unavailable("Presence is not known now.")
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                found = await self._register.read({channel: self._rights.presence(channel)})
        except (RedisError, OSError, RegisterLost) as fault:
            logger.warning("streams.presence_unknown", extra={"fault": type(fault).__name__})
            raise Unavailable("Presence is not known now.") from None
        return found[channel]

    async def _tick_or_doubt(self) -> None:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._tick()
        except Exception as fault:
            # the other nodes may have to write again as well: until then, people would seem to have left
            settled_in_s = self._options.presence_heartbeat_s + 2 * self._options.presence_tick_s
            self._unknown_until = asyncio.get_running_loop().time() + settled_in_s
            logger.warning("streams.presence_unknown", extra={"fault": type(fault).__name__})

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        audience = self._audience()
        here = {channel: frozenset(each.principal.user_id for each in audience[channel]) for channel in audience}
        await self._register.write(here)
        self._told = {channel: told for channel, told in self._told.items() if channel in audience}
        if now < self._unknown_until:
            return
        due = {channel: self._rights.presence(channel) for channel in audience if self._is_due(channel, now)}
        for channel, attendance in (await self._register.read(due)).items():
            if self._tell(channel, audience[channel], attendance, now):
                await asyncio.sleep(0)  # a crowd that came at once is told without holding up events

    def _audience(self) -> dict[str, list[Connection]]:
        """The live connections on each channel that has presence."""
        audience: defaultdict[str, list[Connection]] = defaultdict(list)
        for connection in self._hub.connections:
            if connection.outlet is not None:
                for channel in connection.channels:
                    if self._rights.presence(channel) is not None:
                        audience[channel].append(connection)
        return audience

    def _is_due(self, channel: str, now: float) -> bool:
        """What lists people is read every time; a count, which may be of very many, every few seconds."""
        told = self._told.get(channel)
        return told is None or "members" in told.body or now - told.read_at >= self._options.presence_heartbeat_s

    def _tell(self, channel: str, connections: Iterable[Connection], attendance: Attendance, now: float) -> bool:
        """Tell those who have not heard it; whether there were any."""
        body: dict[str, Any] = {"channel": channel, "count": attendance.count}
        if attendance.members is not None and not attendance.is_truncated:
            body["members"] = attendance.members
        told = self._told.get(channel)
        heard_by = told.heard_by if told is not None and told.body == body else frozenset()
        news_to = [
            each for each in connections
            # it may have left, or have begun to say good-bye, while Redis was asked
            if each not in heard_by and channel in each.channels and not each.ended.done()
        ]  # fmt: skip
        for connection in news_to:
            connection.send("presence", body, key=f"presence {channel}")
        self._told[channel] = _Told(body, frozenset(connections), now)
        return bool(news_to)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._register.leave()
        except Exception as fault:
            logger.warning("streams.presence_left_to_expire", extra={"fault": type(fault).__name__})


def _chunks(rows: list[Any]) -> list[list[Any]]:
    return [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
