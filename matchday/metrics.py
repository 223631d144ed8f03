"""What a process counts and measures, for Prometheus: on a port of its own, because it shows how much happens here."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0


def runner() -> web.AppRunner:
    """An application with one page, `GET /metrics`, in the text format of Prometheus."""
    app = web.Application()
    app.router.add_get("/metrics", _expose)
    return web.AppRunner(app, access_log=None)


async def _expose(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0})
