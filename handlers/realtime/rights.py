"""Who may read which channel now: the table's rules, each asked once for all that is wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection

from handlers.realtime import members
from handlers.realtime.channels import Readers, default_channels, id_of, kind_of
from storage.db import Database
from streams.admission import Asked, PresenceDetail

# those of the pairs of user and deposit where the user started the deposit; answered by the slice that has deposits
StartedAmong = Callable[[Collection[tuple[str, str]]], Awaitable[Collection[tuple[str, str]]]]


class ChannelRights:
    """`streams.admission.Rights` by handlers/realtime/channels.py."""

    def __init__(self, db: Database, *, started_among: StartedAmong) -> None:
        self._db = db
        self._started_among = started_among
        self._rules = {Readers.OWNER: self._owners, Readers.PAYER: self._payers, Readers.MEMBERS: self._members}

    def default_channels(self, user_id: str) -> frozenset[str]:
        return default_channels(user_id)

    def is_withdrawable(self, channel: str) -> bool:
        kind = kind_of(channel)
        return kind is not None and kind.is_withdrawable

    def presence(self, channel: str) -> PresenceDetail | None:
        kind = kind_of(channel)
        return None if kind is None else kind.presence

    async def readable_among(self, asked: Collection[Asked]) -> set[Asked]:
        """Ask each rule once, whatever the number of kinds, users and channels. Raises StorageBusy."""
        by_rule: defaultdict[Readers, list[Asked]] = defaultdict(list)
        for pair in asked:
            kind = kind_of(pair[1])
            if kind is not None:
                by_rule[kind.readers].append(pair)
        readable: set[Asked] = set()
        for readers, pairs in by_rule.items():
            readable |= await self._rules[readers](pairs)
        return readable

    async def _owners(self, asked: Collection[Asked]) -> set[Asked]:
        return {(user_id, channel) for user_id, channel in asked if id_of(channel) == user_id}

    async def _payers(self, asked: Collection[Asked]) -> set[Asked]:
        started = set(await self._started_among([(user_id, id_of(channel)) for user_id, channel in asked]))
        return {(user_id, channel) for user_id, channel in asked if (user_id, id_of(channel)) in started}

    async def _members(self, asked: Collection[Asked]) -> set[Asked]:
        async with self._db.connection() as conn:
            return await members.among(conn, asked)
