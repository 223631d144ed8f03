"""How often what happened on a day in India: the group "analytics", a projection that anybody may read again.

Rebuilt with `DELETE FROM event_counts WHERE day >= …` and `matchday events replay --group analytics --from … --again`,
as far back as the log goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from storage.db import Connection
from streams.log import LogEntry, Q

GROUP = "analytics"


@dataclass(frozen=True, slots=True)
class EventCount:
    """Events of a type that happened on a day in Asia/Kolkata."""

    day: date
    type: str
    events: int


async def count(conn: Connection, entry: LogEntry) -> None:
    """Count an event. Effects: one row of `event_counts`."""
    await Q.count_event(conn, happened_at=entry.happened_at, type=entry.type)


async def between(conn: Connection, first: date, last: date) -> list[EventCount]:
    """Return the counts of some days, both ends included, by day and type."""
    return [EventCount(**row) for row in await Q.list_counts(conn, first=first, last=last)]
