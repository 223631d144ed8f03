"""The product's rights under the clients of tests/streams."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from handlers.payments import store as payments
from handlers.realtime import members
from handlers.realtime.rights import ChannelRights
from storage.db import Database
from streams.admission import Asked, PresenceDetail
from tests.streams.harness import People


@dataclass
class Real(People):
    """Tokens of the harness, and the rights of the product."""

    rights: ChannelRights = field(kw_only=True)

    def default_channels(self, user_id: str) -> frozenset[str]:
        return self.rights.default_channels(user_id)

    def is_withdrawable(self, channel: str) -> bool:
        return self.rights.is_withdrawable(channel)

    def presence(self, channel: str) -> PresenceDetail | None:
        return self.rights.presence(channel)

    async def readable_among(self, asked: Collection[Asked]) -> set[Asked]:
        return await self.rights.readable_among(asked)


async def change(database: Database, *granted: Asked, withdrawn: Collection[Asked] = ()) -> None:
    """Commit memberships, given and taken."""
    async with database.transaction() as conn:
        for user, channel in granted:
            await members.grant(conn, channel, user)
        for user, channel in withdrawn:
            await members.withdraw(conn, channel, user)


@pytest.fixture
def rights(database: Database) -> ChannelRights:
    async def started_among(asked: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        async with database.connection() as conn:
            return await payments.started_among(conn, asked)

    return ChannelRights(database, started_among=started_among)
