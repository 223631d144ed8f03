"""Who is a member of a channel: rows of `channel_members`, for kinds whose readers are their members.

`grant` and `withdraw` run in the caller's transaction, so that a right comes and goes with the change that gives or
takes it. Open streams lose a channel within two seconds of the commit.
"""

from __future__ import annotations

from collections.abc import Collection

from handlers.realtime.channels import Readers, kind_of
from storage import sql
from storage.db import Connection
from storage.sql import Row
from streams.admission import Asked

Q = sql.load(__package__)


async def grant(conn: Connection, channel: str, user_id: str) -> bool:
    """Make a user a member; False when that was so before. Raises ValueError for a channel that has no members."""
    _require_members(channel)
    return bool(await Q.grant_membership(conn, channel=channel, user_id=user_id))


async def withdraw(conn: Connection, channel: str, user_id: str) -> bool:
    """End a membership; False when there was none. Raises ValueError for a channel that has no members."""
    _require_members(channel)
    return bool(await Q.withdraw_membership(conn, channel=channel, user_id=user_id))


async def among(conn: Connection, asked: Collection[Asked]) -> set[Asked]:
    """Return those of the pairs of user and channel that are memberships, with one query."""
    users, channels = [user_id for user_id, _ in asked], [channel for _, channel in asked]
    rows = await Q.no_members_among(conn, users=users, channels=channels)
    return set(asked).difference((row["user_id"], row["channel"]) for row in rows)


async def of_channel(conn: Connection, channel: str) -> list[Row]:
    """Return `user_id` and `granted_at` of a channel's members. Raises ValueError as `grant` does."""
    _require_members(channel)
    rows: list[Row] = await Q.members_of_channel(conn, channel=channel)
    return rows


async def of_user(conn: Connection, user_id: str) -> list[Row]:
    """Return `channel` and `granted_at` of everything that a user is a member of."""
    rows: list[Row] = await Q.channels_of_member(conn, user_id=user_id)
    return rows


def _require_members(channel: str) -> None:
    kind = kind_of(channel)
    if kind is None or kind.readers is not Readers.MEMBERS:
        raise ValueError(f"{channel} is no channel that has members")
