"""What contracts/realtime.yaml calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from contracts.runtime import Call, Reply
from streams.realtime import Realtime


class Operations:
    """One method per operationId."""

    def __init__(self, realtime: Realtime, *, ticket_ttl_s: int) -> None:
        self._realtime = realtime
        self._ticket_ttl = timedelta(seconds=ticket_ttl_s)

    async def create_ticket(self, call: Call) -> Reply:
        expires_at = datetime.now(UTC) + self._ticket_ttl
        ticket = await self._realtime.tickets.issue(call.principal)
        return Reply(201, {"ticket": ticket, "expires_at": expires_at.isoformat()})

    async def get_presence(self, call: Call) -> Reply:
        channel = call.query["channel"]
        there = await self._realtime.presence(call.principal, channel)
        body: dict[str, Any] = {"channel": channel, "count": there.count}
        if there.members is not None:
            body["members"] = there.members
        return Reply(200, {**body, "truncated": there.is_truncated})

    async def poll_events(self, call: Call) -> Reply:
        answer = await self._realtime.poll(
            call.request, call.principal, cursor=call.query.get("cursor"), wait_s=call.query["wait_s"]
        )
        return Reply(200, answer)

    async def stream_events(self, call: Call) -> web.StreamResponse:
        return await self._realtime.sse(call.request, call.principal)
