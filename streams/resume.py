"""Resume: what a client has missed, all of it or nothing, through the channels it may read today."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from streams import metrics
from streams.backlogs import Backlogs
from streams.connection import Connection
from streams.cursor import Cursor, CursorCodec, CursorInvalid
from streams.frames import Delivery
from streams.hub import Hub
from streams.log import SHARD
from streams.options import StreamOptions

# new: no cursor was sent. invalid: not ours. epoch: of another lifetime of the log. expired: too old to look back.
# too_many: more than is replayed. In each case the client loads through REST and goes on from the cursor it is given.
Reason = Literal["new", "invalid", "epoch", "expired", "too_many"]


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a stream begins: `position` is where the client stands before the backlog is sent."""

    position: int
    reason: Reason | None
    backlog: list[Delivery] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """The members `recovered` and `count` or `reason` of the first message of a stream."""
        if self.reason is not None:
            return {"recovered": False, "reason": self.reason}
        return {"recovered": True, "count": len(self.backlog)}


class Resumer:
    """Reads backlogs: from the hub's memory when it reaches back far enough, else from the log."""

    def __init__(self, backlogs: Backlogs, hub: Hub, cursors: CursorCodec, options: StreamOptions) -> None:
        self._backlogs = backlogs
        self._hub = hub
        self._cursors = cursors
        self._options = options

    async def resume(self, connection: Connection, cursor: str | None) -> Resumption:
        """Find what a connection, already registered and holding, has missed since its cursor.

        Sets the connection's position, so that nothing is sent twice. Raises StorageBusy.
        """
        resumption = await self._resume(connection, cursor)
        metrics.RECOVERIES.labels(resumption.reason or "recovered").inc()
        if resumption.reason is None:
            metrics.REPLAYED.observe(len(resumption.backlog))
        return resumption

    async def _resume(self, connection: Connection, cursor: str | None) -> Resumption:
        registered_at = connection.position
        after = await self._position(cursor)
        if not isinstance(after, int):
            return Resumption(registered_at, after)
        if after >= registered_at:
            # the client was ahead of this process (it comes from another one); what is held goes on from there
            connection.position = after
            return Resumption(after, None)
        backlog = await self._backlog(connection, after, registered_at)
        if not isinstance(backlog, list):
            return Resumption(registered_at, backlog)
        connection.position = after
        return Resumption(after, None, backlog)

    async def _position(self, cursor: str | None) -> int | Reason:
        if cursor is None:
            return "new"
        try:
            seen = self._cursors.decode(cursor)
        except CursorInvalid:
            return "invalid"
        if not self._is_of_this_log(seen):
            # this process may not have noticed a newer epoch, or may be behind the one the client comes from
            await self._hub.refresh()
            if not self._is_of_this_log(seen):
                return "epoch"
        return seen.positions[SHARD]

    def _is_of_this_log(self, seen: Cursor) -> bool:
        return seen.epoch == self._hub.epoch and SHARD in seen.positions and seen.positions[SHARD] <= self._hub.position

    async def _backlog(self, connection: Connection, after: int, upto: int) -> list[Delivery] | Reason:
        recent = self._hub.recent(after)
        if recent is not None:
            missed = [d for d in recent if d.position <= upto and not connection.channels.isdisjoint(d.entry.channels)]
        elif upto - after > self._options.replay_window:
            return "expired"
        else:
            read = await self._backlogs.read(
                after=after, upto=upto, channels=connection.channels, limit=self._options.replay_events + 1
            )
            if read is None:
                return "expired"
            missed = read
        too_many = len(missed) > self._options.replay_events
        if too_many or sum(len(d.cloud_event) for d in missed) > self._options.replay_bytes:
            return "too_many"
        return missed
