"""What the sandbox's handlers share while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from integrations.razorpay.sandbox.desk import Desk
from integrations.razorpay.sandbox.knobs import Knobs
from integrations.razorpay.sandbox.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RazorpaySandboxConfig:
    """One merchant account of the sandbox, and where its webhooks go."""

    key_id: str
    key_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    webhook_url: str
    account_id: str
    database: Path
    delivery_timeout_s: float = 5.0
    retry_base_s: float = 1.0
    retry_window_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One running sandbox."""

    config: RazorpaySandboxConfig
    store: Store
    knobs: Knobs
    desk: Desk
    stopping: asyncio.Event


STATE = web.AppKey("razorpay_sandbox", State)
