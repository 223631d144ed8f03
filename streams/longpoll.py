"""Long polling: the fallback where a network breaks streams. One answer with what was missed, or with what comes next.

    register, hold ─▶ missed anything? ─▶ answer
                            │ no             ▲
                            └─▶ first event, or the end of the wait

A poll is a stream that is opened like any other and never goes live: what its connection holds is the answer. The
cursor of an answer is where the next poll begins, so nothing falls between two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from aiohttp import web

from contracts.errors import NotAuthenticated, Unavailable
from streams.admission import wanted_channels
from streams.connection import Close, Connection, Observer, Principal
from streams.frames import Batch, Delivery, Transport, encode
from streams.options import StreamOptions
from streams.session import Opened, Sessions

LOOK_S = 1.0  # how often a poll looks whether its client is still there


class PollFraming:
    """Members of one JSON answer."""

    transport: ClassVar[Transport] = "poll"
    tells_cursor: ClassVar[bool] = False  # an answer has a cursor

    def events(self, batch: Batch) -> bytes:
        return b",".join(delivery.cloud_event for delivery in batch.deliveries)

    def described(self, delivery: Delivery) -> tuple[str, bytes]:
        return delivery.entry.type, delivery.cloud_event

    def message(self, op: str, body: Mapping[str, Any]) -> tuple[bytes, bytes]:
        payload = encode(body)
        return payload, payload


class Poll(Connection):
    """A stream that stays as it is while it opens: it holds what it is given."""

    __slots__ = ("_heard",)

    def __init__(self, principal: Principal, options: StreamOptions, *, observe: Observer | None) -> None:
        super().__init__(principal, PollFraming(), options, observe=observe)
        self._heard: asyncio.Future[Any] | None = None

    def deliver(self, batch: Batch) -> int:
        new = super().deliver(batch)
        if new and self._heard is not None and not self._heard.done():
            self._heard.set_result(None)
        return new

    async def hear(self, within_s: float) -> None:
        """Return when more is held, when the stream has ended, or when the time is over."""
        self._heard = asyncio.get_running_loop().create_future()
        first: set[asyncio.Future[Any]] = {self._heard, self.ended}
        await asyncio.wait(first, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)

    def taken(self, backlog: Sequence[Delivery]) -> list[Delivery]:
        """The backlog and what is held and newer, each event once and in order, of the channels that are left."""
        known = backlog[-1].position if backlog else self.position
        taken = [*backlog, *(delivery for delivery in self._held if delivery.position > known)]
        return [delivery for delivery in taken if not self.channels.isdisjoint(delivery.entry.channels)]

    def show(self, events: Sequence[Delivery]) -> None:
        """Tell the observer what is answered."""
        if self._observe is not None:
            for delivery in events:
                self._observe(self.framing.transport, *self.framing.described(delivery))


class LongPolls:
    """Answers polls."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._options = sessions.options

    async def __call__(
        self, request: web.Request, principal: Principal, *, cursor: str | None, wait_s: float
    ) -> dict[str, Any]:
        """The answer as contracts/realtime.yaml has it, for orjson; its events are encoded already.

        Without events it comes after `wait_s`; at once when it says that the cursor cannot be continued, and when this
        process is stopping. Raises NotAuthenticated, InvalidParameter, StorageBusy, Unavailable.
        """
        with self._sessions.place():
            wanted = wanted_channels(request, self._options)
            poll = Poll(principal, self._options, observe=self._sessions.observe)
            async with self._sessions.open(poll, wanted, cursor) as opened:
                if not opened.body["recovered"]:
                    return {**_head(opened, poll), "cursor": opened.body["cursor"], "more": False, "events": []}
                if not poll.taken(opened.backlog):
                    await self._wait(request, poll, wait_s)
                return self._answer(opened, poll)

    async def _wait(self, request: web.Request, poll: Poll, wait_s: float) -> None:
        """Wait for the first events, holding no connection to anything, and ask again who may read them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while (left_s := deadline - loop.time()) > 0 and not poll.ended.done() and _is_there(request):
            await poll.hear(min(left_s, LOOK_S))
            if poll.taken([]):
                # what commits together comes in one answer
                await asyncio.wait({poll.ended}, timeout=self._options.poll_gather_s)
                # a right may have gone during the wait, and no open stream is told of it here
                grant = await self._sessions.admission.grant(poll.principal, sorted(poll.channels))
                for channel in grant.refused:
                    self._sessions.hub.unsubscribe(poll, channel)
                return

    def _answer(self, opened: Opened, poll: Poll) -> dict[str, Any]:
        ended = poll.ended.done()
        if ended:
            _refuse(poll.ended.result().close)
        held = poll.taken(opened.backlog)
        events = held[: self._fitting(held)]
        poll.show(events)
        # once ended it was given nothing more, so what this process has seen since says nothing about it
        seen = opened.body["cursor"] if ended else self._sessions.hub.cursor
        return {
            **_head(opened, poll),
            "cursor": events[-1].cursor if events else seen,
            "count": len(events),
            "more": len(events) < len(held),
            "events": [orjson.Fragment(delivery.cloud_event) for delivery in events],
        }

    def _fitting(self, held: Sequence[Delivery]) -> int:
        """How many of them an answer takes: as many as a replay does, and at least one."""
        size = 0
        for count, delivery in enumerate(held[: self._options.replay_events]):
            size += len(delivery.cloud_event)
            if count and size > self._options.replay_bytes:
                return count
        return min(len(held), self._options.replay_events)


def _head(opened: Opened, poll: Poll) -> dict[str, Any]:
    told = {name: value for name, value in opened.body.items() if name in ("recovered", "reason")}
    lost = [channel for channel in opened.body["channels"] if channel not in poll.channels]
    return {**told, "channels": sorted(poll.channels), "refused": [*opened.body["refused"], *lost]}


def _refuse(close: Close) -> None:
    """Raises NotAuthenticated or Unavailable where the end of the stream leaves nothing to be answered."""
    if close is Close.TOKEN_INVALID:
        raise NotAuthenticated("The session was revoked.")
    if close in (Close.INSUFFICIENT_STATE, Close.INTERNAL):
        raise Unavailable("The stream cannot be continued; ask again with the same cursor.")


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()
