"""Which sessions were ended early: followed twice a second, so that within two seconds every process refuses the token
and ends the streams, about which it asks once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime

from handlers.identity import store
from storage.db import Database

logger = logging.getLogger(__name__)

_EVERYTHING = "0"  # no transaction has a lower number


class Revocations:
    """The revoked sessions whose tokens are still unexpired, in memory, as of at most `stale_s` ago.

    Each look asks for what was revoked by transactions that the look before could not see, so that none which commits
    late is missed. When looks fail for longer than `stale_s`, each request asks the database instead.
    """

    def __init__(self, db: Database, *, poll_s: float = 0.5, stale_s: float = 2.0) -> None:
        self._db = db
        self._poll_s = poll_s
        self._stale_s = stale_s
        self._ended: dict[str, datetime] = {}  # session → when its tokens end by themselves
        self._horizon = _EVERYTHING
        self._seen_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then keep looking until `stop`."""
        await self.refresh()
        self._task = asyncio.create_task(self._follow(), name="identity-revocations")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def look_up(self, session_id: str) -> bool | None:
        """Tell whether a session was revoked; None when what is in memory is too old to tell."""
        if session_id in self._ended:
            return True
        return False if time.monotonic() - self._seen_at <= self._stale_s else None

    async def is_revoked(self, session_id: str) -> bool:
        """Tell whether a session was revoked, from memory if that is fresh. Raises StorageBusy."""
        known = self.look_up(session_id)
        return await self.ask(session_id) if known is None else known

    async def ask(self, session_id: str) -> bool:
        """Tell whether a session was revoked, or is no more, from the database. Raises StorageBusy."""
        async with self._db.connection() as conn:
            return not await store.session_is_live(conn, session_id)

    def note(self, session_id: str, until: datetime) -> None:
        """Remember at once what this process has just revoked."""
        self._ended[session_id] = until

    async def refresh(self) -> None:
        """Look once. Never raises: a look that fails leaves what was seen to grow stale."""
        began_at = time.monotonic()
        try:
            async with self._db.connection() as conn:
                found = await store.find_revoked(conn, since=self._horizon)
        except Exception as fault:
            # After a fault this may be another server, whose transactions have other numbers: begin anew.
            self._horizon = _EVERYTHING
            logger.warning("identity.revocations_unread", extra={"fault": type(fault).__name__})
            return
        now = datetime.now(UTC)
        self._ended = {session: until for session, until in self._ended.items() if until > now} | found.ended
        self._horizon = found.horizon
        self._seen_at = began_at

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()
