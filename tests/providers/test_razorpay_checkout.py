"""A deposit through hosted checkout: paid, declined, given up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from contracts.money import Money
from integrations.ports import (
    Checkout,
    GatewayPaymentStatus,
    ProviderRefused,
    ReturnOutcome,
    SignatureError,
    WebhookKind,
)
from integrations.razorpay import RazorpayGateway
from tests.providers.conftest import Merchant, Sandbox, checkout_request, read_form


async def choose(sandbox: Sandbox, checkout: Checkout, action: str, *, method: str = "upi") -> dict[str, str]:
    """Walk through the page as a person does; return the form that the browser brings to the merchant."""
    status, html = await sandbox.open_page(checkout.redirect.url, dict(checkout.redirect.fields))
    assert status == 200
    page = read_form(html)
    status, html = await sandbox.open_page(sandbox.url + page.action, {"method": method, "action": action})
    assert status == 200, html
    back = read_form(html)
    assert back.action == checkout.redirect.fields["callback_url"]
    return back.fields


async def test_a_paid_deposit_is_claimed_by_the_browser_told_by_webhook_and_confirmed_by_fetch(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    checkout = await gateway.start(checkout_request())
    form = await choose(sandbox, checkout, "pay")

    claim = gateway.verify_return(form, gateway_order_id=checkout.gateway_order_id)
    assert claim.outcome is ReturnOutcome.PAID_CLAIMED
    assert claim.payment_id is not None

    payment = await gateway.fetch_payment(claim.payment_id)
    assert payment.status is GatewayPaymentStatus.CAPTURED
    assert payment.order_id == checkout.gateway_order_id
    assert payment.amount == Money(Decimal("500.00"), "INR")
    assert payment.fee == Money(Decimal("11.80"), "INR")
    assert payment.tax == Money(Decimal("1.80"), "INR")
    assert payment.method == "upi"
    assert await gateway.list_order_payments(checkout.gateway_order_id) == [payment]

    told = set()
    for delivery in await merchant.wait_for(3):
        gateway.verify_webhook(delivery.headers, delivery.raw)
        event = gateway.parse_webhook(delivery.headers, delivery.raw)
        assert (event.payment_id, event.order_id) == (payment.id, checkout.gateway_order_id)
        told.add(event.kind)
    assert told == {WebhookKind.PAYMENT_AUTHORIZED, WebhookKind.PAYMENT_CAPTURED, WebhookKind.ORDER_PAID}


async def test_a_declined_deposit_comes_back_as_failed_and_stays_failed(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    checkout = await gateway.start(checkout_request())
    form = await choose(sandbox, checkout, "fail", method="netbanking")

    back = gateway.verify_return(form, gateway_order_id=checkout.gateway_order_id)
    assert back.outcome is ReturnOutcome.FAILED
    assert (back.error_code, back.error_reason) == ("BAD_REQUEST_ERROR", "payment_failed")

    assert back.payment_id is not None
    payment = await gateway.fetch_payment(back.payment_id)
    assert payment.status is GatewayPaymentStatus.FAILED
    assert (payment.fee, payment.tax) == (None, None)
    assert payment.error_reason == "payment_failed"

    [delivery] = await merchant.wait_for(1)
    assert gateway.parse_webhook(delivery.headers, delivery.raw).kind is WebhookKind.PAYMENT_FAILED


async def test_a_second_attempt_pays_the_order_that_the_first_one_failed(
    sandbox: Sandbox, gateway: RazorpayGateway
) -> None:
    checkout = await gateway.start(checkout_request())
    await choose(sandbox, checkout, "fail")
    await choose(sandbox, checkout, "pay", method="card")

    attempts = await gateway.list_order_payments(checkout.gateway_order_id)
    assert sorted(attempt.status for attempt in attempts) == ["captured", "failed"]
    [order] = await sandbox.items("/_sandbox/orders")
    assert (order["status"], order["attempts"], order["amount_due"]) == ("paid", 2, 0)


async def test_cancelling_leads_to_the_cancel_url_and_makes_no_payment(
    sandbox: Sandbox, gateway: RazorpayGateway, merchant: Merchant
) -> None:
    checkout = await gateway.start(checkout_request())
    _, html = await sandbox.open_page(checkout.redirect.url, dict(checkout.redirect.fields))
    assert checkout.redirect.fields["cancel_url"] in read_form(html).links
    assert await gateway.list_order_payments(checkout.gateway_order_id) == []
    assert await sandbox.items("/_sandbox/events") == []


async def test_paying_twice_in_two_tabs_takes_the_money_once(sandbox: Sandbox, gateway: RazorpayGateway) -> None:
    checkout = await gateway.start(checkout_request())
    _, html = await sandbox.open_page(checkout.redirect.url, dict(checkout.redirect.fields))
    other_tab = sandbox.url + read_form(html).action
    await choose(sandbox, checkout, "pay")

    status, _ = await sandbox.open_page(other_tab, {"method": "upi", "action": "pay"})
    assert status == 400
    status, _ = await sandbox.open_page(checkout.redirect.url, dict(checkout.redirect.fields))
    assert status == 400
    [only] = await gateway.list_order_payments(checkout.gateway_order_id)
    assert only.status is GatewayPaymentStatus.CAPTURED


async def test_a_return_signed_for_one_order_is_worth_nothing_for_another(
    sandbox: Sandbox, gateway: RazorpayGateway
) -> None:
    small = await gateway.start(checkout_request("pay_small", "1.00"))
    large = await gateway.start(checkout_request("pay_large", "9999.00"))
    form = await choose(sandbox, small, "pay")
    with pytest.raises(SignatureError):
        gateway.verify_return(form, gateway_order_id=large.gateway_order_id)


async def test_a_tampered_amount_is_refused_before_the_page_is_shown(
    sandbox: Sandbox, gateway: RazorpayGateway
) -> None:
    checkout = await gateway.start(checkout_request())
    status, _ = await sandbox.open_page(checkout.redirect.url, {**checkout.redirect.fields, "amount": "100"})
    assert status == 400


async def test_less_than_the_minimum_is_refused_with_the_field_that_broke_the_rule(
    gateway: RazorpayGateway,
) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await gateway.start(checkout_request(amount="0.99"))
    assert (refused.value.status, refused.value.code) == (400, "BAD_REQUEST_ERROR")
    assert refused.value.field == "amount"
