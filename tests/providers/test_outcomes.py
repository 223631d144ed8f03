"""What the adapter concludes when the provider misbehaves: nothing happened, or nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from integrations.http import CallRecord, HttpLimits
from integrations.ports import ProviderOutcomeUnknown, ProviderRefused, ProviderUnavailable
from integrations.razorpay import RazorpayConfig, RazorpayGateway
from tests.providers.conftest import KEY_ID, KEY_SECRET, Sandbox, checkout_request, gateway_for

IMPATIENT = HttpLimits(connect_timeout_s=1.0, total_timeout_s=0.2, attempts=1, backoff_s=0.0)


@dataclass
class Provider:
    """A server that answers as it is told and counts what it was asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        assert self.answer is not None
        return await self.answer(request)

    def say(self, status: int, text: str, content_type: str = "application/json", **headers: str) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, text=text, content_type=content_type, headers=headers)

        self.answer = answer

    def hang_up(self) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        self.answer = answer


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", provider.handle)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("")).rstrip("/")
        yield provider


@pytest.fixture
async def adapter(provider: Provider) -> AsyncIterator[RazorpayGateway]:
    adapter = gateway_for(provider.url)
    yield adapter
    await adapter.close()


async def test_an_order_that_was_made_but_never_answered_is_an_unknown_outcome(sandbox: Sandbox) -> None:
    gateway = gateway_for(sandbox.url, limits=IMPATIENT)
    await sandbox.turn(timeout_next=1)
    with pytest.raises(ProviderOutcomeUnknown):
        await gateway.start(checkout_request("pay_lost"))
    await gateway.close()
    [order] = await sandbox.items("/_sandbox/orders")
    assert order["receipt"] == "pay_lost"


async def test_a_write_answered_with_an_error_page_is_unknown_and_not_repeated(sandbox: Sandbox) -> None:
    gateway = gateway_for(sandbox.url)
    await sandbox.turn(http_500_next=2)
    with pytest.raises(ProviderOutcomeUnknown):
        await gateway.start(checkout_request())
    await gateway.close()
    assert (await sandbox.json("/_sandbox/knobs"))["http_500_next"] == 1


async def test_a_read_answered_with_an_error_page_is_repeated_until_it_works(sandbox: Sandbox) -> None:
    gateway = gateway_for(sandbox.url)
    checkout = await gateway.start(checkout_request())
    await sandbox.turn(http_500_next=2)
    assert await gateway.list_order_payments(checkout.gateway_order_id) == []
    await sandbox.turn(http_500_next=3)
    with pytest.raises(ProviderUnavailable):
        await gateway.list_order_payments(checkout.gateway_order_id)
    await gateway.close()


async def test_wrong_keys_mean_that_nothing_happened(sandbox: Sandbox) -> None:
    gateway = gateway_for(sandbox.url, key_secret="revoked")
    with pytest.raises(ProviderUnavailable, match="credentials"):
        await gateway.start(checkout_request())
    await gateway.close()
    assert await sandbox.items("/_sandbox/orders") == []


async def test_a_refused_connection_is_tried_again_and_nothing_happened(unused_tcp_port: int) -> None:
    records: list[CallRecord] = []
    config = RazorpayConfig(
        key_id=KEY_ID,
        key_secret=KEY_SECRET,
        webhook_secrets=("w",),
        merchant_name="Matchday",
        base_url=f"http://127.0.0.1:{unused_tcp_port}",
    )
    gateway = RazorpayGateway(config, limits=HttpLimits(backoff_s=0.0), record=records.append)
    with pytest.raises(ProviderUnavailable):
        await gateway.start(checkout_request())
    await gateway.close()
    assert [(record.attempt, record.outcome) for record in records] == [
        (attempt, "not connected") for attempt in (1, 2, 3)
    ]


async def test_a_connection_cut_after_sending_is_unknown_for_a_write_only(
    provider: Provider, adapter: RazorpayGateway
) -> None:
    provider.hang_up()
    with pytest.raises(ProviderOutcomeUnknown):
        await adapter.start(checkout_request())
    assert provider.asked == ["POST /v1/orders"]
    with pytest.raises(ProviderUnavailable):
        await adapter.fetch_payment("pay_1")


@pytest.mark.parametrize(
    ("status", "text", "content_type"),
    [
        (200, "<html>welcome</html>", "text/html"),
        (200, '{"id": "order_1", "amount": 50000', "application/json"),
        (200, '{"id": "order_1", "amount": NaN}', "application/json"),
        (200, '"order_1"', "application/json"),
        (200, '{"id": "order_1", "amount": 5, "currency": "INR", "receipt": "pay_01jd4q"}', "application/json"),
        (200, '{"amount": 50000, "currency": "INR", "receipt": "pay_01jd4q"}', "application/json"),
        (200, "[" * 100_000, "application/json"),
        (200, " " * 2_000_000, "application/json"),
        (302, "", "text/html"),
        (408, "", "text/html"),
        (502, "<html>bad gateway</html>", "text/html"),
        (503, '{"error": {"code": "SERVER_ERROR"}}', "application/json"),
    ],
)
async def test_an_answer_that_cannot_be_trusted_leaves_a_write_unknown(
    provider: Provider, adapter: RazorpayGateway, status: int, text: str, content_type: str
) -> None:
    provider.say(status, text, content_type, Location="/v1/elsewhere")
    with pytest.raises(ProviderOutcomeUnknown):
        await adapter.start(checkout_request())
    assert provider.asked == ["POST /v1/orders"]


async def test_too_many_requests_means_that_nothing_happened_and_when_to_come_back(
    provider: Provider, adapter: RazorpayGateway
) -> None:
    provider.say(429, "", **{"Retry-After": "7"})
    with pytest.raises(ProviderUnavailable) as unavailable:
        await adapter.start(checkout_request())
    assert unavailable.value.retry_after_s == 7
    assert len(provider.asked) == 1


@pytest.mark.parametrize("text", ["<html>no</html>", "null", '{"error": "text"}', '{"error": {"code": null}}'])
async def test_a_refusal_without_a_readable_reason_is_still_a_refusal(
    provider: Provider, adapter: RazorpayGateway, text: str
) -> None:
    provider.say(400, text, "text/html" if text.startswith("<") else "application/json")
    with pytest.raises(ProviderRefused) as refused:
        await adapter.start(checkout_request())
    assert (refused.value.status, refused.value.code) == (400, None)


@pytest.mark.parametrize("payment_id", ["", "../orders", "pay_1/capture", "pay_1?x=1", "pay_é", "p" * 65])
async def test_an_id_that_would_change_the_path_is_never_sent(
    provider: Provider, adapter: RazorpayGateway, payment_id: str
) -> None:
    with pytest.raises(ProviderRefused):
        await adapter.fetch_payment(payment_id)
    assert provider.asked == []


async def test_an_answer_about_another_payment_is_not_believed(provider: Provider, adapter: RazorpayGateway) -> None:
    provider.say(
        200, '{"id":"pay_2","amount":100,"currency":"INR","status":"captured","order_id":"o","created_at":1700000000}'
    )
    with pytest.raises(ProviderUnavailable):
        await adapter.fetch_payment("pay_1")
    assert (await adapter.fetch_payment("pay_2")).status == "captured"


async def test_a_list_with_another_orders_payment_is_not_believed(provider: Provider, adapter: RazorpayGateway) -> None:
    item = '{"id":"pay_2","amount":100,"currency":"INR","status":"captured","order_id":"o","created_at":1700000000}'
    provider.say(200, f'{{"items":[{item}]}}')
    with pytest.raises(ProviderUnavailable):
        await adapter.list_order_payments("order_1")
    [payment] = await adapter.list_order_payments("o")
    assert payment.id == "pay_2"


async def test_after_five_failures_in_a_row_the_provider_is_left_alone(
    provider: Provider, adapter: RazorpayGateway
) -> None:
    provider.say(500, "", "text/html")
    for _ in range(5):
        with pytest.raises(ProviderOutcomeUnknown):
            await adapter.start(checkout_request())
    with pytest.raises(ProviderUnavailable, match="circuit open"):
        await adapter.start(checkout_request())
    assert len(provider.asked) == 5


async def test_the_call_record_keeps_no_credential_and_nothing_about_the_payer(sandbox: Sandbox) -> None:
    records: list[CallRecord] = []
    config = RazorpayConfig(
        key_id=KEY_ID,
        key_secret=KEY_SECRET,
        webhook_secrets=("w",),
        merchant_name="Matchday",
        base_url=sandbox.url,
    )
    gateway = RazorpayGateway(config, record=records.append)
    checkout = await gateway.start(checkout_request())
    await gateway.close()
    [record] = records
    assert (record.operation, record.status, record.outcome) == ("orders.create", 200, "ok")
    assert record.request["receipt"] == "pay_01jd4q"
    assert record.request["notes"] == {"deposit": "[redacted]"}
    assert record.response["id"] == checkout.gateway_order_id
    text = repr(record)
    assert KEY_ID not in text
    assert KEY_SECRET not in text
    assert KEY_SECRET not in repr(config)
    assert "Basic" not in text
