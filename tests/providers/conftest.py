"""A merchant, a sandbox and an adapter, each on its own free loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from contracts.money import Money
from integrations.http import HttpLimits
from integrations.ports import CheckoutRequest
from integrations.razorpay import RazorpayConfig, RazorpayGateway
from integrations.razorpay.sandbox import RazorpaySandboxConfig
from integrations.sandbox import SandboxConfig, create_sandbox
from integrations.smtp.sandbox import SMTP_PORT, SmtpSandboxConfig

KEY_ID, KEY_SECRET, WEBHOOK_SECRET = "rzp_test_SandboxKey001", "sbx_key_secret", "whsec_sandbox"
QUICK = HttpLimits(connect_timeout_s=2.0, total_timeout_s=5.0, backoff_s=0.0)

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]], *, deadline_s: float = 10.0) -> T:
    """Return the first thing that `look` finds."""
    async with asyncio.timeout(deadline_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.01)


@dataclass
class Delivery:
    """A webhook as the merchant received it."""

    headers: dict[str, str]
    raw: bytes

    @property
    def event_id(self) -> str:
        return self.headers["x-razorpay-event-id"]


@dataclass
class Merchant:
    """A merchant's webhook endpoint: answers what `answers` says, then 200."""

    received: list[Delivery] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Delivery(headers, await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def wait_for(self, count: int) -> list[Delivery]:
        async def enough() -> list[Delivery] | None:
            return self.received if len(self.received) >= count else None

        return await eventually(enough)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = values["action"]
        elif tag == "input" and values.get("type") == "hidden":
            self.fields[values["name"]] = values["value"]
        elif tag == "a":
            self.links.append(values["href"])


def read_form(html: str) -> _Forms:
    """Read a page as a browser without JavaScript would."""
    page = _Forms()
    page.feed(html)
    return page


@dataclass
class Sandbox:
    """A running sandbox and a browser on it."""

    url: str
    smtp_port: int
    browser: ClientSession

    async def json(self, path: str) -> Any:
        async with self.browser.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def items(self, path: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.json(path))["items"]
        return listed

    async def turn(self, **knobs: int) -> None:
        async with self.browser.post(self.url + "/_sandbox/knobs", json=knobs) as answer:
            assert answer.status == 200, await answer.text()

    async def open_page(self, url: str, fields: dict[str, str]) -> tuple[int, str]:
        async with self.browser.post(url, data=fields) as answer:
            return answer.status, await answer.text()


def sandbox_config(database: Path, webhook_url: str) -> SandboxConfig:
    """A sandbox that retries quickly enough for a test to watch."""
    return SandboxConfig(
        razorpay=RazorpaySandboxConfig(
            key_id=KEY_ID,
            key_secret=KEY_SECRET,
            webhook_secret=WEBHOOK_SECRET,
            webhook_url=webhook_url,
            account_id="acc_SbxSandbox0001",
            database=database,
            delivery_timeout_s=2.0,
            retry_base_s=0.01,
        ),
        smtp=SmtpSandboxConfig(port=0, database=database),
    )


def checkout_request(reference: str = "pay_01jd4q", amount: str = "500.00") -> CheckoutRequest:
    """A player's deposit."""
    return CheckoutRequest(
        reference=reference,
        amount=Money(Decimal(amount), "INR"),
        description="Wallet top-up",
        return_url="http://127.0.0.1:9/return?deposit=dep_1",
        cancel_url="http://127.0.0.1:9/cancel?deposit=dep_1",
        payer_email="player@example.com",
        notes={"deposit": "dep_1"},
    )


@pytest.fixture
def merchant() -> Merchant:
    return Merchant()


@pytest.fixture
async def webhook_url(merchant: Merchant) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/webhooks/razorpay", merchant.receive)
    async with TestServer(app) as server:
        yield str(server.make_url("/webhooks/razorpay"))


@pytest.fixture
async def sandbox(tmp_path: Path, webhook_url: str) -> AsyncIterator[Sandbox]:
    app = create_sandbox(sandbox_config(tmp_path / "sandbox.sqlite3", webhook_url))
    async with TestServer(app) as server, ClientSession() as browser:
        yield Sandbox(str(server.make_url("")).rstrip("/"), app[SMTP_PORT], browser)


def gateway_for(url: str, *, key_secret: str = KEY_SECRET, limits: HttpLimits = QUICK) -> RazorpayGateway:
    """The adapter, pointed at a server."""
    config = RazorpayConfig(
        key_id=KEY_ID,
        key_secret=key_secret,
        webhook_secrets=(WEBHOOK_SECRET,),
        merchant_name="Matchday",
        base_url=url,
    )
    return RazorpayGateway(config, limits=limits)


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[RazorpayGateway]:
    adapter = gateway_for(sandbox.url)
    yield adapter
    await adapter.close()
