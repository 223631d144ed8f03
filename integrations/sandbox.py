"""Every vendor sandbox on one application: what `matchday sandbox` runs.

Each vendor keeps the paths of its own wire format; the control API and the inbox live under /_sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from integrations import sandbox_pages
from integrations.razorpay import sandbox as razorpay
from integrations.razorpay.sandbox import RazorpaySandboxConfig, control as razorpay_control
from integrations.sandbox_pages import Link, Pages

_pages = Pages(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Which vendors to stand in for, and how."""

    razorpay: RazorpaySandboxConfig


def create_sandbox(config: SandboxConfig) -> web.Application:
    """Build the application; its workers start and stop with it."""
    app = web.Application()
    sandbox_pages.setup(app)
    app.router.add_get("/", _overview)
    razorpay.setup(app, config.razorpay)
    return app


async def _overview(request: web.Request) -> web.Response:
    links = [Link("Webhook deliveries", "/_sandbox/deliveries"), Link("Knobs", "/_sandbox/knobs")]
    return _pages.render(
        "overview.html", title="Overview", links=links, sections=razorpay_control.overview(request.app)
    )
