"""One client's stream: its channels, how far it has been served, and why it ends.

opening: deliveries are held        resume.py reads the backlog meanwhile
   │ go_live(): backlog, then what was held and is newer
   ▼
live: deliveries go to the outlet ──▶ ended (once, with a code)
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Protocol

from streams.frames import Batch, Delivery, Framing, Transport
from streams.options import StreamOptions
from streams.outlet import JOIN_BYTES, Outlet

logger = logging.getLogger(__name__)

_random = random.SystemRandom()

# Called with (transport, op or SSE event name, JSON) for every message sent; must not raise.
Observer = Callable[[Transport, str, bytes], None]


class Principal(Protocol):
    """Whom a stream belongs to; contracts.principal.Principal is one."""

    @property
    def user_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def expires_at(self) -> datetime: ...


class Close(IntEnum):
    """Why a stream ends: WebSocket close codes (RFC 6455 §7.4.2). 40xx: reconnect; 44xx: do not, something is wrong."""

    NORMAL = 1000
    INTERNAL = 1011
    GOING_AWAY = 4001
    TOKEN_EXPIRED = 4002
    SLOW = 4008
    INSUFFICIENT_STATE = 4010
    LIMIT = 4029
    PROTOCOL = 4400
    TOKEN_INVALID = 4401
    FORBIDDEN = 4403

    @property
    def reason(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a stream; `reconnect_after_ms` spreads the clients that are to come back."""

    close: Close
    reconnect_after_ms: int | None = None

    def json(self) -> dict[str, Any]:
        """The body of `going_away`."""
        return {
            "code": int(self.close),
            "reason": self.close.reason,
            "reconnect_after_ms": self.reconnect_after_ms,
        }


class Connection:
    """A stream of one principal, on any transport."""

    __slots__ = (
        "_credentials", "_held", "_held_bytes", "_observe", "_options", "_rotation", "channels", "cursor_sent_at",
        "ended", "framing", "outlet", "position", "principal",
    )  # fmt: skip

    def __init__(
        self, principal: Principal, framing: Framing, options: StreamOptions, *, observe: Observer | None
    ) -> None:
        self.principal = principal
        self.framing = framing
        self.channels: set[str] = set()
        self.position = 0
        self.cursor_sent_at = 0
        self.outlet: Outlet | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._options = options
        self._observe = observe
        self._held: list[Delivery] = []
        self._held_bytes = 0
        self._rotation = self._rotate_later()
        self._credentials = self._warn_later()

    @property
    def ttl_s(self) -> int:
        """Whole seconds until the credentials of this stream end."""
        return max(0, int(self._credentials_left_s()))

    def deliver(self, batch: Batch) -> int:
        """Send events, or hold them while the stream is being opened; how many were new to it. Never blocks."""
        newer = batch.after(self.position)
        if newer is None or self.ended.done():
            return 0
        if self.outlet is not None:
            self._send(newer, self.outlet)
        else:
            self._hold(newer)
        return len(newer.deliveries)

    def go_live(self, outlet: Outlet, op: str, body: Mapping[str, Any], backlog: list[Delivery]) -> None:
        """Send the first message, the backlog, and what was held meanwhile; from here on, send at once."""
        self.outlet = outlet
        self.cursor_sent_at = self.position
        # a client that comes from a node ahead of this one has seen some of what is held
        held, self._held = [delivery for delivery in self._held if delivery.position > self.position], []
        missed = [*backlog, *held]
        if not missed or self.ended.done():
            self.send(op, body)
            return
        batch = Batch(missed)
        outlet.expect(len(self.framing.events(batch)))
        self.send(op, body)
        self._send(batch, outlet)

    def send(self, op: str, body: Mapping[str, Any], *, key: str | None = None) -> None:
        """Send a message that is not an event; under a `key`, it takes the place of an older one that still waits."""
        if self.outlet is None:
            return
        payload, frame = self.framing.message(op, body)
        if self._observe is not None:
            self._observe(self.framing.transport, op, payload)
        self.outlet.send(frame, key=key)

    def move_cursor(self, position: int, cursor: str) -> None:
        """Tell a client whose channels are quiet how far it has been served, so that its cursor does not grow old."""
        if self.framing.tells_cursor and position > self.cursor_sent_at and not self.ended.done():
            self.cursor_sent_at = position
            self.send("cursor", {"cursor": cursor}, key="cursor")

    def end(self, close: Close) -> None:
        """End the stream; the first reason stays."""
        if not self.ended.done():
            if close is Close.SLOW:
                logger.info("streams.slow_client", extra={"transport": self.framing.transport})
            self._rotation.cancel()
            self._credentials.cancel()
            comes_back = close in (Close.GOING_AWAY, Close.TOKEN_EXPIRED)
            self.ended.set_result(Ending(close, self.reconnect_after_ms() if comes_back else None))

    def renew(self, principal: Principal) -> None:
        """Go on with newer credentials of the same user. Position, channels and rotation stay as they are."""
        if not self.ended.done():
            self.principal = principal
            self._credentials.cancel()
            self._credentials = self._warn_later()

    def reconnect_after_ms(self) -> int:
        """A moment to come back that spreads the clients."""
        return _random.randint(self._options.reconnect_min_ms, self._options.reconnect_max_ms)

    def _send(self, batch: Batch, outlet: Outlet) -> None:
        block = self.framing.events(batch)
        if len(block) > JOIN_BYTES and len(batch.deliveries) > 1:
            for half in batch.halves:  # so that the outlet can wait in between
                self._send(half, outlet)
            return
        self.position = self.cursor_sent_at = batch.last
        outlet.send(block)
        if self._observe is not None:
            for delivery in batch.deliveries:
                self._observe(self.framing.transport, *self.framing.described(delivery))

    def _hold(self, batch: Batch) -> None:
        self._held.extend(batch.deliveries)
        self._held_bytes += sum(len(delivery.cloud_event) for delivery in batch.deliveries)
        if self._held_bytes > self._options.queue_bytes:
            self.end(Close.INSUFFICIENT_STATE)

    def _rotate_later(self) -> asyncio.TimerHandle:
        """Every stream ends after a while, whatever its credentials: so a deploy is nothing special."""
        jitter = self._options.lifetime_jitter
        lifetime_s = self._options.max_lifetime_s * _random.uniform(1 - jitter, 1 + jitter)
        return asyncio.get_running_loop().call_later(lifetime_s, self.end, Close.GOING_AWAY)

    def _warn_later(self) -> asyncio.TimerHandle:
        """Say that the credentials expire once most of what was left of them is over; then wait for that."""
        left_s = self._credentials_left_s()
        if left_s <= 0:
            return asyncio.get_running_loop().call_later(0, self.end, Close.TOKEN_EXPIRED)
        return asyncio.get_running_loop().call_later(left_s * self._options.token_warning, self._warn)

    def _warn(self) -> None:
        # only a WebSocket can be sent a new token, so only there is a late one worth waiting for
        grace_s = self._options.token_grace_s if self.framing.transport == "websocket" else 0.0
        left_s = self._credentials_left_s() + grace_s
        self._credentials = asyncio.get_running_loop().call_later(max(0.0, left_s), self.end, Close.TOKEN_EXPIRED)
        self.send("token_expiring", {"ttl_s": self.ttl_s})

    def _credentials_left_s(self) -> float:
        return (self.principal.expires_at - datetime.now(UTC)).total_seconds()
