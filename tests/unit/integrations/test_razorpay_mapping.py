"""Razorpay's words to ours: exhaustive, and never paid by accident."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contracts.money import Money
from integrations.ports import (
    CheckoutRequest,
    GatewayPaymentStatus,
    MalformedWebhook,
    ReturnOutcome,
    SignatureError,
    WebhookKind,
)
from integrations.razorpay import RazorpayConfig, RazorpayGateway, mapping, webhook

PAYMENT: dict[str, Any] = {
    "id": "pay_SbxPay00000001",
    "entity": "payment",
    "amount": 50000,
    "currency": "INR",
    "status": "captured",
    "order_id": "order_SbxOrd00000001",
    "method": "upi",
    "captured": True,
    "fee": 1180,
    "tax": 180,
    "error_code": None,
    "created_at": 1700000040,
}
REQUEST = CheckoutRequest(
    reference="pay_01jd4q",
    amount=Money(Decimal("500.00"), "INR"),
    description="Wallet top-up",
    return_url="https://matchday.example/return",
    cancel_url="https://matchday.example/cancel",
    payer_email="player@example.com",
    notes={"deposit": "dep_1"},
)


def test_a_captured_payment_is_read_whole() -> None:
    payment = mapping.payment(PAYMENT)
    assert payment.amount == Money(Decimal("500.00"), "INR")
    assert payment.fee == Money(Decimal("11.80"), "INR")
    assert payment.tax == Money(Decimal("1.80"), "INR")
    assert payment.status is GatewayPaymentStatus.CAPTURED
    assert payment.created_at == datetime(2023, 11, 14, 22, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("created", GatewayPaymentStatus.PENDING),
        ("authorized", GatewayPaymentStatus.AUTHORIZED),
        ("captured", GatewayPaymentStatus.CAPTURED),
        ("refunded", GatewayPaymentStatus.REFUNDED),
        ("failed", GatewayPaymentStatus.FAILED),
        ("Captured", GatewayPaymentStatus.PENDING),
        ("settled_by_next_year", GatewayPaymentStatus.PENDING),
    ],
)
def test_every_documented_status_has_a_meaning_and_any_other_is_pending(
    word: str, status: GatewayPaymentStatus
) -> None:
    assert mapping.payment({**PAYMENT, "status": word}).status is status


def test_the_captured_flag_next_to_another_status_does_not_make_a_payment_paid() -> None:
    assert mapping.payment({**PAYMENT, "status": "authorized"}).status is GatewayPaymentStatus.AUTHORIZED
    assert mapping.payment({**PAYMENT, "status": "failed"}).status is GatewayPaymentStatus.FAILED


@pytest.mark.parametrize("empty", [None, ""])
def test_null_and_empty_both_mean_none(empty: str | None) -> None:
    payment = mapping.payment({**PAYMENT, "error_code": empty, "order_id": empty, "fee": None, "tax": None})
    assert (payment.error_code, payment.order_id, payment.fee, payment.tax) == (None, None, None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", None),
        ("amount", "50000"),
        ("amount", True),
        ("amount", -1),
        ("amount", Decimal("50000.0")),
        ("amount", 10**30),
        ("fee", "1180"),
        ("currency", "USD"),
        ("currency", None),
        ("status", None),
        ("id", 7),
        ("created_at", "now"),
        ("created_at", 10**20),
    ],
)
def test_a_payment_of_another_shape_is_not_guessed_at(field: str, value: object) -> None:
    with pytest.raises(mapping.MalformedDocument):
        mapping.payment({**PAYMENT, field: value})


@pytest.mark.parametrize("document", [None, [], {}, {"items": {}}, {"items": [None]}])
def test_a_collection_of_another_shape_is_not_an_empty_one(document: object) -> None:
    with pytest.raises(mapping.MalformedDocument):
        mapping.payments(document)
    assert mapping.payments({"items": []}) == []


@pytest.mark.parametrize("field", ["amount", "currency", "receipt"])
def test_an_order_that_is_not_the_one_we_asked_for_is_not_ours(field: str) -> None:
    order = {**mapping.order_body(REQUEST), "id": "order_1"}
    assert mapping.order_id(order, REQUEST) == "order_1"
    with pytest.raises(mapping.MalformedDocument, match=field):
        mapping.order_id({**order, field: "other"}, REQUEST)


def test_an_order_is_asked_for_in_paise_and_captured_automatically() -> None:
    body = mapping.order_body(REQUEST)
    assert (body["amount"], body["currency"], body["receipt"]) == (50000, "INR", "pay_01jd4q")
    assert type(body["amount"]) is int
    assert body["payment"]["capture"] == "automatic"


def test_the_checkout_form_leaves_out_what_is_not_known_of_the_payer() -> None:
    fields = mapping.checkout_fields(REQUEST, key_id="rzp_test_key", merchant="Matchday", order="order_1")
    assert fields["amount"] == "50000"
    assert fields["prefill[email]"] == "player@example.com"
    assert "prefill[contact]" not in fields
    assert fields["notes[deposit]"] == "dep_1"
    assert all(isinstance(value, str) for value in fields.values())


@pytest.mark.parametrize(
    ("form", "outcome", "payment_id"),
    [
        ({"error[reason]": "payment_failed"}, ReturnOutcome.FAILED, None),
        ({"error[reason]": "payment_cancelled"}, ReturnOutcome.CANCELLED, None),
        ({"error[metadata]": '{"payment_id":"pay_1","order_id":"order_1"}'}, ReturnOutcome.FAILED, "pay_1"),
        ({"error[metadata]": '{"payment_id":"pay_1","order_id":"order_2"}'}, ReturnOutcome.FAILED, None),
        ({"error[metadata]": '{"payment_id":7,"order_id":"order_1"}'}, ReturnOutcome.FAILED, None),
        ({"error[metadata]": "[" * 100_000}, ReturnOutcome.FAILED, None),
        ({"error[metadata]": "null"}, ReturnOutcome.FAILED, None),
    ],
)
def test_a_failed_return_is_a_hint_that_names_a_payment_of_our_order_at_most(
    form: dict[str, str], outcome: ReturnOutcome, payment_id: str | None
) -> None:
    config = RazorpayConfig(key_id="k", key_secret="s", webhook_secrets=("w",), merchant_name="Matchday")
    gateway = RazorpayGateway(config)
    back = gateway.verify_return({"error[code]": "BAD_REQUEST_ERROR", **form}, gateway_order_id="order_1")
    assert (back.outcome, back.payment_id, back.error_code) == (outcome, payment_id, "BAD_REQUEST_ERROR")
    with pytest.raises(SignatureError):
        gateway.verify_return(form, gateway_order_id="order_1")


def event(name: str, **changes: Any) -> bytes:
    document = {"event": name, "payload": {"payment": {"entity": PAYMENT}}, "created_at": 1700000060}
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("payment.authorized", WebhookKind.PAYMENT_AUTHORIZED),
        ("payment.captured", WebhookKind.PAYMENT_CAPTURED),
        ("payment.failed", WebhookKind.PAYMENT_FAILED),
        ("order.paid", WebhookKind.ORDER_PAID),
    ],
)
def test_a_known_event_names_the_payment_and_the_order(name: str, kind: WebhookKind) -> None:
    read = webhook.parse({"X-Razorpay-Event-Id": "evt1"}, event(name))
    assert (read.event_key, read.kind, read.name) == ("evt1", kind, name)
    assert (read.payment_id, read.order_id) == ("pay_SbxPay00000001", "order_SbxOrd00000001")
    assert read.occurred_at == datetime(2023, 11, 14, 22, 14, 20, tzinfo=UTC)


@pytest.mark.parametrize("name", ["refund.speed_changed", "payment.pending", "settlement.processed", "payment"])
def test_any_other_event_is_ignored_whatever_its_shape(name: str) -> None:
    read = webhook.parse({"x-razorpay-event-id": "evt1"}, json.dumps({"event": name, "payload": []}).encode())
    assert (read.kind, read.name, read.payment_id) == (WebhookKind.IGNORED, name, None)


@pytest.mark.parametrize("headers", [{}, {"x-razorpay-event-id": ""}, {"x-razorpay-event-id": "e" * 129}])
def test_without_an_event_id_a_repeat_could_not_be_told(headers: dict[str, str]) -> None:
    with pytest.raises(MalformedWebhook, match="x-razorpay-event-id"):
        webhook.parse(headers, event("payment.captured"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        event("payment.captured", payload={}),
        event("payment.captured", payload={"payment": {"entity": {}}}),
        event("payment.captured", created_at=None),
        event(""),
    ],
)
def test_a_body_of_another_shape_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        webhook.parse({"x-razorpay-event-id": "evt1"}, raw)
