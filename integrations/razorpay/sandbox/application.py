"""Put the sandbox's parts on an aiohttp application and run its worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from integrations.razorpay.sandbox import api, checkout, control
from integrations.razorpay.sandbox.desk import Desk
from integrations.razorpay.sandbox.knobs import Knobs
from integrations.razorpay.sandbox.sender import Sender
from integrations.razorpay.sandbox.state import STATE, RazorpaySandboxConfig, State
from integrations.razorpay.sandbox.store import Store


def setup(app: web.Application, config: RazorpaySandboxConfig) -> None:
    """Add routes and the webhook worker. The wire format is Razorpay's own, so paths start at the root."""
    checkout.add_routes(app)
    api.add_routes(app)
    control.add_routes(app)

    async def run(app: web.Application) -> AsyncIterator[None]:
        store, knobs = Store(config.database), Knobs()
        sender = Sender(
            store,
            knobs,
            url=config.webhook_url,
            secret=config.webhook_secret,
            timeout_s=config.delivery_timeout_s,
            retry_base_s=config.retry_base_s,
        )
        desk = Desk(
            store,
            knobs,
            account_id=config.account_id,
            retry_window_s=config.retry_window_s,
            on_event=sender.wake,
        )
        app[STATE] = State(config=config, store=store, knobs=knobs, desk=desk, stopping=asyncio.Event())
        worker = asyncio.create_task(sender.run(), name="razorpay-sandbox-webhooks")
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        store.close()

    async def release(app: web.Application) -> None:
        app[STATE].stopping.set()

    app.cleanup_ctx.append(run)
    app.on_shutdown.append(release)
