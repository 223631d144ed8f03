"""Events that a consumer gave up on: kept whole, listed, and replayed one by one when the cause is mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from contracts import ids
from contracts.errors import NotFound
from storage.db import Connection, Database
from streams.log import Handler, LogEntry, Q

MAX_ERROR_CHARS = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event, the group that failed at it, and its last error."""

    id: str
    group: str
    entry: LogEntry
    error: str
    attempts: int
    failed_at: datetime


async def record(conn: Connection, *, group: str, entry: LogEntry, fault: BaseException, attempts: int) -> None:
    """Keep an event, in the transaction in which the group moves past it. Effects: one row in `dead_letters`.

    An event that failed again after it was replayed waits again.
    """
    event = asdict(entry)
    event["channels"] = list(entry.channels)
    error = f"{type(fault).__name__}: {fault}".replace("\0", "")[:MAX_ERROR_CHARS]
    await Q.record_dead_letter(conn, id=ids.new("dlt"), consumer_group=group, error=error, attempts=attempts, **event)


async def waiting(conn: Connection, *, group: str, limit: int, after: str = "") -> list[DeadLetter]:
    """List the events of a group that wait to be replayed, oldest first; `after` is the last id of the page before."""
    rows = await Q.list_dead_letters(conn, consumer_group=group, after=after, page=limit)
    return [
        DeadLetter(
            row["id"], row["consumer_group"], LogEntry.from_row(row), row["error"], row["attempts"], row["failed_at"]
        )
        for row in rows
    ]


async def replay(db: Database, letter_id: str, *, handlers: Mapping[str, Handler]) -> None:
    """Run a group's handler on the event again; its effect commits together with the mark that it is done.

    `handlers` by group. An event that the group has handled since, having been sent back, is only marked. Raises
    NotFound when no such letter waits, and whatever the handler raises: it waits on then.
    """
    async with db.transaction() as conn:
        row = await Q.claim_dead_letter(conn, id=letter_id)
        if row is None:
            raise NotFound("No such dead letter waits to be replayed.")
        group = row["consumer_group"]
        if group not in handlers:
            raise NotFound(f"No group {group} reads the log any more.")
        if await Q.take_event(conn, consumer_group=group, event_id=row["event_id"]):
            await handlers[group](conn, LogEntry.from_row(row))
        await Q.mark_replayed(conn, id=letter_id)
