"""The REST API on the wire: what the sandbox serves is what Razorpay documents."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import encode_basic_auth

from tests.providers.conftest import KEY_ID, KEY_SECRET, Sandbox, checkout_request, gateway_for
from tests.providers.test_razorpay_checkout import choose

AUTH = encode_basic_auth(KEY_ID, KEY_SECRET)


async def ask(sandbox: Sandbox, method: str, path: str, *, auth: str | None = AUTH, **options: Any) -> tuple[int, Any]:
    headers = {} if auth is None else {"Authorization": auth}
    async with sandbox.browser.request(method, sandbox.url + path, headers=headers, **options) as answer:
        return answer.status, await answer.json()


async def new_order(sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
    status, order = await ask(sandbox, "POST", "/v1/orders", json={"amount": 50000, "currency": "INR", **changes})
    assert status == 200, order
    return dict(order)


async def test_a_new_order_has_the_documented_shape(sandbox: Sandbox) -> None:
    order = await new_order(sandbox, receipt="topup-7f31", notes={"wallet_txn": "7f31"})
    assert order["id"].startswith("order_")
    assert order["id"].removeprefix("order_").isalnum()
    assert len(order["id"].removeprefix("order_")) == 14
    assert {field: value for field, value in order.items() if field not in ("id", "created_at")} == {
        "entity": "order",
        "amount": 50000,
        "amount_paid": 0,
        "amount_due": 50000,
        "currency": "INR",
        "receipt": "topup-7f31",
        "offer_id": None,
        "status": "created",
        "attempts": 0,
        "notes": {"wallet_txn": "7f31"},
    }
    assert await ask(sandbox, "GET", f"/v1/orders/{order['id']}") == (200, order)


async def test_empty_notes_come_back_as_an_array(sandbox: Sandbox) -> None:
    assert (await new_order(sandbox))["notes"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": 99, "currency": "INR"}, "amount"),
        ({"amount": "50000", "currency": "INR"}, "amount"),
        ({"amount": 500.5, "currency": "INR"}, "amount"),
        ({"amount": True, "currency": "INR"}, "amount"),
        ({"currency": "INR"}, "amount"),
        ({"amount": 100}, "currency"),
        ({"amount": 100, "currency": "INR", "receipt": "r" * 41}, "receipt"),
        ({"amount": 100, "currency": "INR", "notes": {str(n): "" for n in range(16)}}, "notes"),
        ({"amount": 100, "currency": "INR", "notes": {"a": "n" * 257}}, "notes"),
        ({"amount": 100, "currency": "INR", "payment": {"capture": "later"}}, "capture"),
        ({"amount": 100, "currency": "INR", "surprise": 1}, None),
        (["amount"], None),
    ],
)
async def test_a_bad_order_is_refused_with_an_error_document(sandbox: Sandbox, body: Any, field: str | None) -> None:
    status, document = await ask(sandbox, "POST", "/v1/orders", json=body)
    assert status == 400
    assert document["error"]["code"] == "BAD_REQUEST_ERROR"
    assert document["error"].get("field") == field
    assert document["error"]["description"]


@pytest.mark.parametrize("auth", [None, encode_basic_auth(KEY_ID, "wrong"), encode_basic_auth("wrong", KEY_SECRET)])
async def test_without_the_right_keys_every_answer_is_401(sandbox: Sandbox, auth: str | None) -> None:
    for method, path in [("POST", "/v1/orders"), ("GET", "/v1/payments/pay_x"), ("GET", "/v1/nothing")]:
        status, document = await ask(sandbox, method, path, auth=auth)
        assert status == 401
        assert document["error"]["code"] == "BAD_REQUEST_ERROR"


async def test_an_unknown_path_is_404_and_an_unknown_id_is_400(sandbox: Sandbox) -> None:
    assert (await ask(sandbox, "GET", "/v1/nothing"))[0] == 404
    assert (await ask(sandbox, "PUT", "/v1/orders"))[0] == 404
    for path in ("/v1/orders/order_x", "/v1/orders/order_x/payments", "/v1/payments/pay_x"):
        status, document = await ask(sandbox, "GET", path)
        assert (status, document["error"]["description"]) == (400, "The id provided does not exist")


async def test_lists_are_paged_newest_first_in_an_envelope(sandbox: Sandbox) -> None:
    ids = [(await new_order(sandbox))["id"] for _ in range(12)][::-1]
    _, first = await ask(sandbox, "GET", "/v1/orders")
    assert (first["entity"], first["count"]) == ("collection", 10)
    assert [order["id"] for order in first["items"]] == ids[:10]
    _, rest = await ask(sandbox, "GET", "/v1/orders?count=100&skip=10")
    assert [order["id"] for order in rest["items"]] == ids[10:]
    assert (await ask(sandbox, "GET", "/v1/orders?to=946684801"))[1]["items"] == []
    for query in ("count=0", "count=101", "skip=-1", "from=1", "to=x"):
        status, document = await ask(sandbox, "GET", f"/v1/payments?{query}")
        assert (status, document["error"]["field"]) == (400, query.split("=")[0])


async def test_a_manual_capture_takes_the_whole_amount_once(sandbox: Sandbox) -> None:
    order = await new_order(sandbox, payment={"capture": "manual"})
    form = {
        "key_id": KEY_ID,
        "order_id": order["id"],
        "callback_url": "http://127.0.0.1:9/return",
        "cancel_url": "http://127.0.0.1:9/cancel",
    }
    _, html = await sandbox.open_page(sandbox.url + "/v1/checkout/embedded", form)
    page = html.split('action="')[1].split('"')[0]
    assert (await sandbox.open_page(sandbox.url + page, {"method": "upi", "action": "pay"}))[0] == 200
    [payment] = (await ask(sandbox, "GET", f"/v1/orders/{order['id']}/payments"))[1]["items"]
    assert (payment["status"], payment["fee"]) == ("authorized", None)
    assert (await sandbox.open_page(sandbox.url + page, {"method": "upi", "action": "pay"}))[0] == 400

    capture = f"/v1/payments/{payment['id']}/capture"
    status, document = await ask(sandbox, "POST", capture, json={"amount": 49999, "currency": "INR"})
    assert (status, document["error"]["field"]) == (400, "amount")
    whole = {"amount": 50000, "currency": "INR"}
    status, captured = await ask(sandbox, "POST", capture, json=whole)
    assert (status, captured["status"], captured["fee"], captured["tax"]) == (200, "captured", 1180, 180)
    assert (await ask(sandbox, "POST", capture, json=whole))[0] == 400
    assert (await ask(sandbox, "GET", f"/v1/orders/{order['id']}"))[1]["status"] == "paid"
    assert (await ask(sandbox, "GET", "/v1/payments"))[1]["items"] == [captured]


async def test_a_failed_payment_cannot_be_captured(sandbox: Sandbox) -> None:
    gateway = gateway_for(sandbox.url)
    checkout = await gateway.start(checkout_request())
    await choose(sandbox, checkout, "fail")
    [payment] = await gateway.list_order_payments(checkout.gateway_order_id)
    await gateway.close()
    capture = f"/v1/payments/{payment.id}/capture"
    assert (await ask(sandbox, "POST", capture, json={"amount": 50000, "currency": "INR"}))[0] == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"key_id": "rzp_test_other"},
        {"order_id": "order_x"},
        {"currency": "USD"},
        {"callback_url": "javascript:alert(1)"},
        {"cancel_url": "/relative"},
    ],
)
async def test_checkout_refuses_a_form_that_is_not_this_order_of_this_merchant(
    sandbox: Sandbox, changes: dict[str, str]
) -> None:
    gateway = gateway_for(sandbox.url)
    checkout = await gateway.start(checkout_request())
    await gateway.close()
    status, html = await sandbox.open_page(checkout.redirect.url, {**checkout.redirect.fields, **changes})
    assert status in (400, 401)
    assert "javascript:" not in html


async def test_an_unknown_checkout_or_choice_makes_no_payment(sandbox: Sandbox) -> None:
    gateway = gateway_for(sandbox.url)
    checkout = await gateway.start(checkout_request())
    await gateway.close()
    _, html = await sandbox.open_page(checkout.redirect.url, dict(checkout.redirect.fields))
    page = html.split('action="')[1].split('"')[0]
    for choice in ({"method": "cash", "action": "pay"}, {"method": "upi", "action": "steal"}, {}):
        assert (await sandbox.open_page(sandbox.url + page, choice))[0] == 400
    assert (await sandbox.open_page(sandbox.url + "/v1/checkout/chk_x", {"action": "pay"}))[0] == 400
    assert await sandbox.items("/_sandbox/payments") == []
