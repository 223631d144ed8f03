"""Reads of the log for clients that come back: those that ask while a read is under way share the next one.

When a node dies, its clients come back within seconds of each other, each with a cursor of its own. One read from the
oldest of their cursors on, through all their channels, serves them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from contracts.errors import StorageBusy
from storage.db import Database
from streams import log, metrics
from streams.frames import Delivery
from streams.log import LogEntry

logger = logging.getLogger(__name__)

PAGE = 1000


@dataclass(slots=True, eq=False)
class _Wanted:
    """What one client missed: events of its channels with `after < position <= upto`, found so far."""

    after: int
    upto: int
    channels: frozenset[str]
    done: asyncio.Future[list[Delivery] | None]
    found: list[Delivery] = field(default_factory=list)


class Backlogs:
    """Reads what was missed. `delivery` makes of an entry what is sent; it is made once for all who missed it."""

    def __init__(self, db: Database, delivery: Callable[[LogEntry], Delivery]) -> None:
        self._db = db
        self._delivery = delivery
        self._waiting: list[_Wanted] = []
        self._reading: asyncio.Task[None] | None = None

    async def read(self, *, after: int, upto: int, channels: Iterable[str], limit: int) -> list[Delivery] | None:
        """Return the events of some channels with `after < position <= upto`, oldest first, at most `limit`.

        None when the log was cut within that range. Raises StorageBusy.
        """
        done: asyncio.Future[list[Delivery] | None] = asyncio.get_running_loop().create_future()
        wanted = _Wanted(after, upto, frozenset(channels), done)
        self._waiting.append(wanted)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all(limit), name="streams.backlogs")
        return await done

    async def _read_all(self, limit: int) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                try:
                    floor = await self._search(taken, limit)
                except Exception as fault:
                    logger.warning("streams.backlog_unreadable", extra={"fault": type(fault).__name__})
                    _settle(taken, None)
                else:
                    _settle(taken, floor)
        finally:
            self._reading = None

    async def _search(self, taken: list[_Wanted], limit: int) -> int:
        """Find what all of them missed; the oldest position that is still kept."""
        by_channel: dict[str, list[_Wanted]] = {}
        for wanted in taken:
            for channel in wanted.channels:
                by_channel.setdefault(channel, []).append(wanted)
        after, upto = min(wanted.after for wanted in taken), max(wanted.upto for wanted in taken)
        async with self._db.connection() as conn:
            while True:
                entries = await log.read(conn, after=after, upto=upto, channels=by_channel.keys(), limit=PAGE)
                metrics.LOG_READS.labels("resume").inc()
                for entry in entries:
                    _hand_out(self._delivery(entry), by_channel, limit)
                if len(entries) < PAGE or all(len(wanted.found) >= limit for wanted in taken):
                    break
                after = entries[-1].position
            # asked after the read: had the log been cut in between, the floor tells
            return await log.floor(conn)


def _hand_out(delivery: Delivery, by_channel: dict[str, list[_Wanted]], limit: int) -> None:
    concerned = {wanted: None for channel in delivery.entry.channels for wanted in by_channel.get(channel, ())}
    for wanted in concerned:
        if wanted.after < delivery.position <= wanted.upto and len(wanted.found) < limit:
            wanted.found.append(delivery)


def _settle(taken: list[_Wanted], floor: int | None) -> None:
    """Answer each of them; without a floor the log could not be read."""
    for wanted in taken:
        if wanted.done.done():
            continue  # its client left meanwhile
        if floor is None:
            wanted.done.set_exception(StorageBusy())
        else:
            wanted.done.set_result(wanted.found if floor <= wanted.after + 1 else None)
