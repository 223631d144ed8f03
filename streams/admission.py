"""Admission: who opens a stream, which channels that person may read now, and which no longer.

Every question about users and rights is answered by what is handed in from above; nothing about them is known here.
Questions are asked in batches: one for all channels of a request, one a second for all open streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from aiohttp import web

from contracts.errors import NotAuthenticated, TooMany
from contracts.runtime.problem import Fault, InvalidParameter
from streams.connection import Connection, Principal
from streams.options import StreamOptions
from streams.tickets import TicketHolder, Tickets

# token -> principal; raises a 401 or 403 Problem
Authenticate = Callable[[str], Awaitable[Principal]]
# those of these sessions that were revoked; asked once a second for all open streams together
RevokedAmong = Callable[[frozenset[str]], Awaitable[Collection[str]]]
# a user's id and a channel's name
Asked = tuple[str, str]
# what others may know of who is on a channel: how many, or who
PresenceDetail = Literal["count", "members"]

MAX_CHANNEL_CHARS = 100


class Rights(Protocol):
    """What is known of channels and of who may read them; handlers.realtime.rights answers it."""

    def default_channels(self, user_id: str) -> frozenset[str]:
        """What a stream carries when the client names no channels."""

    async def readable_among(self, asked: Collection[Asked]) -> Collection[Asked]:
        """Those of the pairs of user and channel where the user may read the channel now. Raises StorageBusy."""

    def is_withdrawable(self, channel: str) -> bool:
        """Whether somebody who may read this channel can lose that right while a stream is open."""

    def presence(self, channel: str) -> PresenceDetail | None:
        """What is told of who is there; None for a channel without presence, or that does not exist."""


class TooManyStreams(TooMany):
    """One user has as many streams as one may have."""

    code, title = "realtime.too_many_streams", "Too many open streams"
    retry_after_s = 10


@dataclass(frozen=True, slots=True)
class Grant:
    """The channels of a stream, and those that were asked for in vain."""

    channels: frozenset[str]
    refused: tuple[str, ...] = ()


class Admission:
    """Credentials in, principal and channels out."""

    def __init__(
        self, *, tickets: Tickets, authenticate: Authenticate, rights: Rights, revoked_among: RevokedAmong,
        options: StreamOptions,
    ) -> None:  # fmt: skip
        self._tickets = tickets
        self._authenticate = authenticate
        self._rights = rights
        self._revoked_among = revoked_among
        self._max_streams_per_user = options.max_streams_per_user
        self._streams_of: Counter[str] = Counter()

    async def by_token(self, token: str) -> Principal:
        """Raises NotAuthenticated or what `authenticate` does."""
        return await self._authenticate(token)

    async def by_ticket(self, ticket: str) -> Principal:
        """Raises NotAuthenticated for a ticket that is void, Unavailable without Redis."""
        return await self._tickets.redeem(ticket)

    async def refuse_revoked(self, principal: Principal) -> None:
        """Raises NotAuthenticated when the session was revoked, even a moment ago: a ticket outlives a sign-out."""
        if principal.session_id in await self._revoked_among(frozenset({principal.session_id})):
            raise NotAuthenticated("The session was revoked.")

    @contextmanager
    def place_of(self, principal: Principal) -> Iterator[None]:
        """One of the `max_streams_per_user` places of a user in this process. Raises TooManyStreams."""
        user_id = principal.user_id
        if self._streams_of[user_id] >= self._max_streams_per_user:
            raise TooManyStreams
        self._streams_of[user_id] += 1
        try:
            yield
        finally:
            self._streams_of[user_id] -= 1
            if not self._streams_of[user_id]:
                del self._streams_of[user_id]

    async def grant(self, principal: Principal, wanted: Iterable[str] | None) -> Grant:
        """Decide what may be read now; `wanted` None is what a stream carries by default. Raises StorageBusy."""
        limit = principal.channels if isinstance(principal, TicketHolder) else None
        if wanted is None and limit is None:
            return Grant(self._rights.default_channels(principal.user_id))
        names = list(dict.fromkeys(wanted if wanted is not None else sorted(limit or ())))
        asked = [(principal.user_id, name) for name in names if limit is None or name in limit]
        allowed = frozenset(name for _, name in await self._rights.readable_among(asked))
        return Grant(allowed, tuple(name for name in names if name not in allowed))

    async def revoked(self, connections: Iterable[Connection]) -> list[Connection]:
        """Return the connections whose session was revoked."""
        by_session: dict[str, list[Connection]] = {}
        for connection in connections:
            by_session.setdefault(connection.principal.session_id, []).append(connection)
        if not by_session:
            return []
        revoked = await self._revoked_among(frozenset(by_session))
        return [connection for session_id in revoked for connection in by_session.get(session_id, ())]

    async def withdrawn(self, connections: Iterable[Connection]) -> dict[Connection, set[str]]:
        """Return, for each connection that has any, its channels that its user may read no longer.

        Only of streams that are live: one that is being opened was asked about a moment ago, and has not heard of its
        channels yet. Raises StorageBusy when it cannot be known now; everybody then keeps what was granted.
        """
        held = {
            connection: channels for connection in connections
            if connection.outlet is not None and (channels := self._withdrawable(connection))
        }  # fmt: skip
        asked = {(each.principal.user_id, channel) for each, channels in held.items() for channel in channels}
        if not asked:
            return {}
        lost = asked - set(await self._rights.readable_among(asked))
        withdrawn = {
            each: {channel for channel in channels if (each.principal.user_id, channel) in lost}
            for each, channels in held.items()
        }
        return {each: channels for each, channels in withdrawn.items() if channels}

    def _withdrawable(self, connection: Connection) -> list[str]:
        return [channel for channel in connection.channels if self._rights.is_withdrawable(channel)]


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
