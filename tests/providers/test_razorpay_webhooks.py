"""Deliveries: at least once, the same event id each time, until the merchant says 2xx."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from integrations.ports import SignatureError
from integrations.razorpay import RazorpayGateway
from integrations.sandbox import create_sandbox
from integrations.smtp.sandbox import SMTP_PORT
from tests.providers.conftest import Merchant, Sandbox, checkout_request, eventually, gateway_for, sandbox_config
from tests.providers.test_razorpay_checkout import choose


async def settled(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Wait until no event is pending; return them, newest first."""

    async def look() -> list[dict[str, Any]] | None:
        events = await sandbox.items("/_sandbox/events")
        return events if events and all(event["state"] != "pending" for event in events) else None

    return await eventually(look)


async def test_a_rejected_delivery_is_repeated_under_the_same_event_id(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    merchant.answers = [500, 302, 404]
    await choose(sandbox, await gateway.start(checkout_request()), "fail")

    deliveries = await merchant.wait_for(4)
    assert len({delivery.event_id for delivery in deliveries}) == 1
    assert len({delivery.raw for delivery in deliveries}) == 1
    [event] = await settled(sandbox)
    assert (event["state"], event["attempts"]) == ("delivered", 4)
    attempts = await sandbox.items(f"/_sandbox/deliveries?event_id={event['id']}")
    assert [attempt["status"] for attempt in attempts] == [200, 404, 302, 500]


async def test_an_event_that_nobody_takes_is_given_up_when_its_window_ends(tmp_path: Path, webhook_url: str) -> None:
    config = sandbox_config(tmp_path / "sandbox.sqlite3", webhook_url + "/nowhere")
    app = create_sandbox(replace(config, razorpay=replace(config.razorpay, retry_window_s=0.05)))
    async with TestServer(app) as server, ClientSession() as browser:
        sandbox = Sandbox(str(server.make_url("")).rstrip("/"), app[SMTP_PORT], browser)
        gateway = gateway_for(sandbox.url)
        await choose(sandbox, await gateway.start(checkout_request()), "fail")
        await gateway.close()
        [event] = await settled(sandbox)
        assert event["state"] == "expired"
        assert event["attempts"] >= 2


async def test_any_2xx_counts_as_accepted(sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant) -> None:
    merchant.answers = [202]
    await choose(sandbox, await gateway.start(checkout_request()), "fail")
    [event] = await settled(sandbox)
    assert (event["state"], event["attempts"]) == ("delivered", 1)


async def test_each_event_shows_the_payment_as_it_was_at_that_moment(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    checkout = await gateway.start(checkout_request())
    await choose(sandbox, checkout, "pay")
    bodies = {body["event"]: body for body in (json.loads(d.raw) for d in await merchant.wait_for(3))}

    authorized = bodies["payment.authorized"]["payload"]["payment"]["entity"]
    assert (authorized["status"], authorized["captured"], authorized["fee"]) == ("authorized", False, None)
    captured = bodies["payment.captured"]["payload"]["payment"]["entity"]
    assert (captured["status"], captured["fee"], captured["tax"]) == ("captured", 1180, 180)
    paid = bodies["order.paid"]
    assert paid["contains"] == ["payment", "order"]
    assert paid["payload"]["order"]["entity"]["status"] == "paid"
    assert paid["account_id"] == "acc_SbxSandbox0001"


async def test_a_merchant_that_re_writes_the_json_cannot_verify_it(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    checkout = await gateway.start(checkout_request())
    await choose(sandbox, checkout, "fail")
    [delivery] = await merchant.wait_for(1)
    gateway.verify_webhook(delivery.headers, delivery.raw)
    assert b"Wallet top-up" in delivery.raw
    for rewritten in (json.dumps(json.loads(delivery.raw)).encode(), delivery.raw + b"\n"):
        with pytest.raises(SignatureError):
            gateway.verify_webhook(delivery.headers, rewritten)


async def test_redelivery_sends_the_same_event_once_more(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    await choose(sandbox, await gateway.start(checkout_request()), "fail")
    [event] = await settled(sandbox)
    async with sandbox.browser.post(f"{sandbox.url}/_sandbox/events/{event['id']}/redeliver") as answer:
        assert answer.status == 202
    first, second = await merchant.wait_for(2)
    assert (first.event_id, first.raw) == (second.event_id, second.raw)
    async with sandbox.browser.post(f"{sandbox.url}/_sandbox/events/nothing/redeliver") as answer:
        assert answer.status == 404


async def test_duplicates_come_as_often_as_asked(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    await sandbox.turn(duplicate=2)
    await choose(sandbox, await gateway.start(checkout_request()), "fail")
    [event] = await settled(sandbox)
    assert [delivery.event_id for delivery in merchant.received] == [event["id"]] * 3


async def test_a_dropped_event_never_arrives_until_somebody_asks_for_it(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    await sandbox.turn(drop=3)
    checkout = await gateway.start(checkout_request())
    await choose(sandbox, checkout, "pay")
    events = await settled(sandbox)
    assert [event["state"] for event in events] == ["dropped"] * 3
    assert merchant.received == []
    [payment] = await gateway.list_order_payments(checkout.gateway_order_id)
    assert payment.status == "captured"

    async with sandbox.browser.post(f"{sandbox.url}/_sandbox/events/{events[0]['id']}/redeliver"):
        [delivery] = await merchant.wait_for(1)
    assert delivery.event_id == events[0]["id"]


async def test_a_badly_signed_delivery_is_found_out_and_the_retry_is_good(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    await sandbox.turn(bad_signature=1)
    merchant.answers = [400]
    await choose(sandbox, await gateway.start(checkout_request()), "fail")
    forged, genuine = await merchant.wait_for(2)
    with pytest.raises(SignatureError):
        gateway.verify_webhook(forged.headers, forged.raw)
    gateway.verify_webhook(genuine.headers, genuine.raw)
    assert forged.event_id == genuine.event_id


async def test_a_delayed_event_arrives_after_the_payment_is_already_there(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    await sandbox.turn(delay_ms=200)
    checkout = await gateway.start(checkout_request())
    await choose(sandbox, checkout, "pay")
    [payment] = await gateway.list_order_payments(checkout.gateway_order_id)
    assert payment.status == "captured"
    created = [event["created_at"] for event in await settled(sandbox)]
    attempted = [attempt["attempted_at"] for attempt in await sandbox.items("/_sandbox/deliveries")]
    assert min(attempted) >= min(created) + 0.2


async def test_a_knob_that_does_not_exist_is_refused(sandbox: Sandbox) -> None:
    mistakes: list[Any] = [{"duplicates": 1}, {"drop": -1}, {"drop": True}, {"drop": "1"}, []]
    for wrong in mistakes:
        async with sandbox.browser.post(sandbox.url + "/_sandbox/knobs", json=wrong) as answer:
            assert answer.status == 400, wrong
    assert set((await sandbox.json("/_sandbox/knobs")).values()) == {0}


async def test_what_was_not_delivered_before_a_restart_is_delivered_after_it(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    webhook_url = f"http://127.0.0.1:{unused_tcp_port}/webhooks/razorpay"
    config = sandbox_config(tmp_path / "sandbox.sqlite3", webhook_url)
    app = create_sandbox(config)
    async with TestServer(app) as server, ClientSession() as browser:
        sandbox = Sandbox(str(server.make_url("")).rstrip("/"), app[SMTP_PORT], browser)
        gateway = gateway_for(sandbox.url)
        checkout = await gateway.start(checkout_request())
        await choose(sandbox, checkout, "pay")
        await eventually(lambda: sandbox.items("/_sandbox/deliveries"))
        await gateway.close()

    merchant = Merchant()
    receiver = web.Application()
    receiver.router.add_post("/webhooks/razorpay", merchant.receive)
    app = create_sandbox(config)
    async with (
        TestServer(receiver, port=unused_tcp_port),
        TestServer(app) as server,
        ClientSession() as browser,
    ):
        sandbox = Sandbox(str(server.make_url("")).rstrip("/"), app[SMTP_PORT], browser)
        deliveries = await merchant.wait_for(3)
        assert Counter(json.loads(delivery.raw)["event"] for delivery in deliveries) == {
            "payment.authorized": 1,
            "payment.captured": 1,
            "order.paid": 1,
        }
        gateway = gateway_for(sandbox.url)
        [payment] = await gateway.list_order_payments(checkout.gateway_order_id)
        assert payment.status == "captured"
        await gateway.close()


async def test_the_overview_shows_every_vendor_and_offers_redelivery(
    sandbox: Sandbox, gateway: RazorpayGateway
) -> None:
    checkout = await gateway.start(checkout_request(amount="1234567.50"))
    await choose(sandbox, checkout, "pay")
    [event, *_] = await settled(sandbox)
    async with sandbox.browser.get(sandbox.url + "/") as answer:
        page = await answer.text()
    assert checkout.gateway_order_id in page
    assert "₹12,34,567.50" in page
    assert f'action="/_sandbox/events/{event["id"]}/redeliver"' in page
    async with sandbox.browser.post(
        f"{sandbox.url}/_sandbox/events/{event['id']}/redeliver",
        headers={"Accept": "text/html"},
        allow_redirects=False,
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/")
