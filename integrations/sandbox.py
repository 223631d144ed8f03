"""Every vendor sandbox on one application: what `matchday sandbox` runs.

Each vendor keeps the paths of its own wire format; the control API is under /_sandbox, the mail under
/inbox, and the page at / shows what every vendor knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from integrations import sandbox_pages
from integrations.razorpay import sandbox as razorpay
from integrations.razorpay.sandbox import RazorpaySandboxConfig
from integrations.sandbox_pages import Link, Pages
from integrations.smtp import sandbox as smtp
from integrations.smtp.sandbox import SmtpSandboxConfig

_LINKS = [
    Link("Inbox", "/inbox"),
    Link("Webhook deliveries", "/_sandbox/deliveries"),
    Link("Knobs", "/_sandbox/knobs"),
]
_pages = Pages(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Which vendors to stand in for, and how."""

    razorpay: RazorpaySandboxConfig
    smtp: SmtpSandboxConfig


def create_sandbox(config: SandboxConfig) -> web.Application:
    """Build the application; its workers and listeners start and stop with it."""
    app = web.Application()
    sandbox_pages.setup(app)
    app.router.add_get("/", _overview)
    razorpay.setup(app, config.razorpay)
    smtp.setup(app, config.smtp)
    return app


async def _overview(request: web.Request) -> web.Response:
    sections = [*razorpay.overview(request.app), *smtp.overview(request.app)]
    return _pages.render("overview.html", title="Overview", links=_LINKS, sections=sections)
