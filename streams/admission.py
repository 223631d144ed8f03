"""Admission: who opens a stream, and which channels that person may read now.

Every question about rights is answered by functions handed in from above; nothing about users is known here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from contracts.errors import NotAuthenticated
from contracts.runtime.problem import Fault, InvalidParameter
from streams.connection import Connection, Principal
from streams.options import StreamOptions
from streams.tickets import TicketHolder, Tickets

T = TypeVar("T")

# token -> principal; raises a 401 or 403 Problem
Authenticate = Callable[[str], Awaitable[Principal]]
# what a stream carries when nothing is asked for
ChannelsFor = Callable[[Principal], frozenset[str] | Awaitable[frozenset[str]]]
MayRead = Callable[[Principal, str], bool | Awaitable[bool]]
# those of these sessions that were revoked; asked once a second for all open streams together
RevokedAmong = Callable[[frozenset[str]], Collection[str] | Awaitable[Collection[str]]]

MAX_CHANNEL_CHARS = 100


@dataclass(frozen=True, slots=True)
class Grant:
    """The channels of a stream, and those that were asked for in vain."""

    channels: frozenset[str]
    refused: tuple[str, ...] = ()


class Admission:
    """Credentials in, principal and channels out."""

    def __init__(
        self, *, tickets: Tickets, authenticate: Authenticate, channels_for: ChannelsFor, may_read: MayRead,
        revoked_among: RevokedAmong,
    ) -> None:  # fmt: skip
        self._tickets = tickets
        self._authenticate = authenticate
        self._channels_for = channels_for
        self._may_read = may_read
        self._revoked_among = revoked_among

    async def by_token(self, token: str) -> Principal:
        """Raises NotAuthenticated or what `authenticate` does."""
        return await self._authenticate(token)

    async def by_ticket(self, ticket: str) -> Principal:
        """Raises NotAuthenticated for a ticket that is void, Unavailable without Redis."""
        return await self._tickets.redeem(ticket)

    async def refuse_revoked(self, principal: Principal) -> None:
        """Raises NotAuthenticated when the session was revoked, even a moment ago: a ticket outlives a sign-out."""
        if principal.session_id in await _settled(self._revoked_among(frozenset({principal.session_id}))):
            raise NotAuthenticated("The session was revoked.")

    async def grant(self, principal: Principal, wanted: Iterable[str] | None) -> Grant:
        """Decide what may be read now; `wanted` None is what a stream carries by default."""
        limit = principal.channels if isinstance(principal, TicketHolder) else None
        if wanted is None and limit is None:
            return Grant(await _settled(self._channels_for(principal)))
        names = list(dict.fromkeys(wanted if wanted is not None else sorted(limit or ())))
        allowed = [
            name for name in names
            if (limit is None or name in limit) and await _settled(self._may_read(principal, name))
        ]  # fmt: skip
        return Grant(frozenset(allowed), tuple(name for name in names if name not in allowed))

    async def revoked(self, connections: Iterable[Connection]) -> list[Connection]:
        """Return the connections whose session was revoked."""
        by_session: dict[str, list[Connection]] = {}
        for connection in connections:
            by_session.setdefault(connection.principal.session_id, []).append(connection)
        if not by_session:
            return []
        revoked = await _settled(self._revoked_among(frozenset(by_session)))
        return [connection for session_id in revoked for connection in by_session.get(session_id, ())]


def wanted_channels(request: web.Request, options: StreamOptions) -> list[str] | None:
    """Read the query parameter `channels`, names separated by commas. Raises InvalidParameter."""
    text = request.query.get("channels")
    if text is None:
        return None
    names = [name for name in text.split(",") if name]
    if len(names) > options.max_channels:
        fault = Fault("#/query/channels", "maxItems", f"must name at most {options.max_channels} channels")
        raise InvalidParameter(errors=[fault])
    if any(len(name) > MAX_CHANNEL_CHARS for name in names):
        fault = Fault("#/query/channels", "maxLength", f"must be names of at most {MAX_CHANNEL_CHARS} characters")
        raise InvalidParameter(errors=[fault])
    return names


async def _settled(answer: T | Awaitable[T]) -> T:
    return await answer if inspect.isawaitable(answer) else answer
