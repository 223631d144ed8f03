"""The log: every committed event once, at a contiguous position of its shard, in commit order.

Positions are given by the relay after commit, so a reader that saw position n has seen everything before it.
They never leave the process: clients get cursors (cursor.py). The log is kept in days and cut at its beginning, a whole
day at a time (retention.py); docs/adr/0022-the-log-in-days.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from storage import sql
from storage.db import Connection

Q = sql.load("streams")

SHARD = 0


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of the log. `sequence` rises strictly with `position` and, being a clock, counts nothing."""

    shard: int
    position: int
    event_id: str
    type: str
    subject: str
    channels: tuple[str, ...]
    data: dict[str, Any]
    happened_at: datetime
    sequence: int
    traceparent: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LogEntry:
        """Read the columns that every query of the log returns."""
        return cls(
            shard=row["shard"], position=row["position"], event_id=row["event_id"], type=row["type"],
            subject=row["subject"], channels=tuple(row["channels"]), data=row["data"],
            happened_at=row["happened_at"], sequence=row["sequence"], traceparent=row["traceparent"],
        )  # fmt: skip


# A reader's reaction to an event; its effect belongs in the transaction of the connection it is given.
Handler = Callable[[Connection, LogEntry], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a shard in one lifetime of the log; position 0 is an empty log."""

    epoch: UUID
    position: int


async def head(conn: Connection, shard: int = SHARD) -> Head:
    """Return the end of a shard."""
    row = await Q.log_head(conn, shard=shard)
    return Head(row["epoch"], row["head"])


async def follow(conn: Connection, *, after: int, page: int, shard: int = SHARD) -> tuple[Head, list[LogEntry]]:
    """Return the end of a shard and the events of the next `page` positions, read in one snapshot.

    Less than that, though the end is further away, means that the log was cut there: a reader at `after` has lost
    events.
    """
    rows = await Q.follow_log(conn, shard=shard, after=after, page=page)
    entries = [LogEntry.from_row(row) for row in rows if row["position"] is not None]
    return Head(rows[0]["epoch"], rows[0]["head"]), entries


async def read(
    conn: Connection, *, after: int, upto: int, channels: Collection[str], limit: int, shard: int = SHARD
) -> list[LogEntry]:
    """Return events of some channels with `after < position <= upto`, oldest first."""
    rows = await Q.read_log(conn, shard=shard, after=after, upto=upto, channels=list(channels), page=limit)
    return [LogEntry.from_row(row) for row in rows]


async def floor(conn: Connection, shard: int = SHARD) -> int:
    """Return the oldest position still kept; the end and one when none is, whether cut or never there."""
    position: int = await Q.log_floor(conn, shard=shard)
    return position


async def renew_epoch(conn: Connection) -> UUID:
    """Begin a new lifetime of the log: to be run after a restore, before anybody connects.

    Not after a cut (retention.py): positions go on, and cursors that are newer than the cut stay good.
    Every cursor given out so far then answers `recovered: false, reason: epoch`.
    """
    epoch: UUID = await Q.renew_epoch(conn)
    return epoch
