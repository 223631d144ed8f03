"""Sending a group of consumers back, so that it reads a part of the log again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from contracts.errors import NotFound
from storage.db import Connection, Database
from streams import log
from streams.log import SHARD, Q
from streams.relay import today


@dataclass(frozen=True, slots=True)
class SentBack:
    """How many events a group reads again, and how many of those it had handled it will handle again."""

    events: int
    again: int


async def send_back(db: Database, group: str, *, since: datetime | None, again: bool) -> SentBack:
    """Have a group read again what was recorded since an instant, or (None) all that is kept.

    What it has handled it does not handle again, unless `again`: for a projection that was emptied first. Waits for the
    events that the group handles now. A group that has not come so far yet stays where it is. Raises NotFound.
    """
    async with db.transaction() as conn:
        stands = await Q.hold_position(conn, consumer_group=group, shard=SHARD)
        if stands is None:
            known = [row["consumer_group"] for row in await Q.list_positions(conn, shard=SHARD)]
            raise NotFound(f"No group {group} reads the log. Known: {', '.join(known) or 'none'}.")
        # Only now the end of the log, so that it is not cut meanwhile: the relay must not wait for a handler.
        await Q.lock_head(conn, shard=SHARD, today=today())
        position = await _position(conn, since)
        if position >= stands:
            return SentBack(0, 0)
        await Q.advance_position(conn, consumer_group=group, shard=SHARD, position=position)
        handled = await Q.forget_handled(conn, consumer_group=group, shard=SHARD, position=position) if again else 0
        return SentBack(stands - position, handled)


async def _position(conn: Connection, since: datetime | None) -> int:
    floor = await log.floor(conn)
    if since is None:
        return floor - 1
    position: int = await Q.position_at(conn, shard=SHARD, instant=since)
    return max(position, floor - 1)
