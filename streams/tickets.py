"""Tickets: a password for one connection, good once and for 30 seconds, for clients that cannot send a header.

A ticket stands in a URL and so in access logs; by the time somebody reads it there, it is void.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from contracts.errors import NotAuthenticated, Unavailable
from storage.redis import Redis, RedisError
from streams.connection import Principal
from streams.options import StreamOptions

logger = logging.getLogger(__name__)

TICKET_BYTES = 24
REDIS_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TicketHolder:
    """Whom a ticket was issued to; `channels` limits the stream, None does not."""

    user_id: str
    session_id: str
    expires_at: datetime
    channels: frozenset[str] | None = None


class Tickets:
    """Issues and redeems tickets; Redis holds their SHA-256 only."""

    def __init__(self, redis: Redis, options: StreamOptions) -> None:
        self._redis = redis
        self._ttl_s = options.ticket_ttl_s

    async def issue(self, principal: Principal, *, channels: Collection[str] | None = None) -> str:
        """Return a ticket for one stream of this principal; `channels` narrows it. Raises Unavailable without Redis."""
        ticket = "tkt_" + secrets.token_urlsafe(TICKET_BYTES)
        holder = {
            "user_id": principal.user_id,
            "session_id": principal.session_id,
            "expires_at": principal.expires_at.isoformat(),
            "channels": None if channels is None else sorted(channels),
        }
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._redis.set(_key(ticket), json.dumps(holder), ex=self._ttl_s)
        except (RedisError, OSError) as fault:
            raise _unavailable(fault) from None
        return ticket

    async def redeem(self, ticket: str) -> TicketHolder:
        """Take a ticket; the second time it is void. Raises NotAuthenticated, and Unavailable without Redis."""
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                stored = await self._redis.getdel(_key(ticket))
        except (RedisError, OSError) as fault:
            raise _unavailable(fault) from None
        if stored is None:
            raise NotAuthenticated("The ticket is unknown, used or expired.")
        holder = json.loads(stored)
        channels = holder["channels"]
        return TicketHolder(
            user_id=holder["user_id"], session_id=holder["session_id"],
            expires_at=datetime.fromisoformat(holder["expires_at"]),
            channels=None if channels is None else frozenset(channels),
        )  # fmt: skip


def _key(ticket: str) -> str:
    return "streams:ticket:" + hashlib.sha256(ticket.encode()).hexdigest()


def _unavailable(fault: Exception) -> Unavailable:
    logger.warning("streams.tickets_unavailable", extra={"fault": type(fault).__name__})
    return Unavailable()
