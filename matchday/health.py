"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from storage.db import Database
from storage.redis import Redis

READY_TIMEOUT_S = 2.0


class Health:
    """`/health/live` says that the loop turns; `/health/ready` that PostgreSQL and Redis answer.

    A process that is `draining` is not ready: it ends its streams, and whoever distributes requests sends no new ones.
    """

    def __init__(self, db: Database, redis: Redis, *, draining: Callable[[], bool]) -> None:
        self._db = db
        self._redis = redis
        self._draining = draining

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/health/live", self.live), web.get("/health/ready", self.ready)]

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        if self._draining():
            return web.json_response({"status": "draining"}, status=503)
        checks = {"postgres": self._postgres(), "redis": self._answers()}
        found = dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))
        ready = all(found.values())
        return web.json_response({"status": "ready" if ready else "waiting", **found}, status=200 if ready else 503)

    async def _postgres(self) -> bool:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S), self._db.connection() as conn:
                return bool(await conn.raw.fetchval("SELECT true"))
        except Exception:
            return False

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                return bool(await self._redis.ping())
        except Exception:
            return False
