"""Reading a verified webhook: what is no JSON, or not the documented shape, is refused and never guessed at."""

from __future__ import annotations

import json

import pytest

from integrations.ports import MalformedWebhook, WebhookKind
from integrations.razorpay import webhook

HEADERS = {"X-Razorpay-Event-Id": "SbxEvt00000001"}
CAPTURED = {
    "entity": "event",
    "event": "payment.captured",
    "payload": {"payment": {"entity": {"id": "pay_SbxPay00000001", "order_id": "order_SbxOrd00000001"}}},
    "created_at": 1700000060,
}


def raw(**changes: object) -> bytes:
    return json.dumps({**CAPTURED, **changes}).encode()


def test_a_captured_payment_is_read() -> None:
    event = webhook.parse(HEADERS, raw())
    assert (event.kind, event.payment_id, event.event_key) == (
        WebhookKind.PAYMENT_CAPTURED, "pay_SbxPay00000001", "SbxEvt00000001",
    )  # fmt: skip


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_refused_wherever_it_stands(constant: str) -> None:
    for body in (raw(surprise="@"), raw(event="order.unheard_of", surprise=["@"]), raw(created_at="@")):
        with pytest.raises(MalformedWebhook):
            webhook.parse(HEADERS, body.replace(b'"@"', constant.encode()))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"payment.captured"', b"\xff", raw() + b"x", b"[" * 100_000,
        json.dumps(CAPTURED).encode("utf-16"), b"\xef\xbb\xbf" + raw(),
        raw(event=""), raw(event=None), raw(event=["payment.captured"]),
        raw(payload=None), raw(payload={"payment": []}), raw(payload={"payment": {"entity": {"id": 1}}}),
        raw(created_at=None), raw(created_at="1700000060"), raw(created_at=1e300), raw(created_at=10**30),
    ],
)  # fmt: skip
def test_what_is_not_the_documented_shape_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        webhook.parse(HEADERS, body)


def test_a_kind_nobody_told_us_of_is_ignored_whatever_it_carries() -> None:
    event = webhook.parse(HEADERS, raw(event="refund.created", payload=None, created_at=None))
    assert (event.kind, event.payment_id) == (WebhookKind.IGNORED, None)


@pytest.mark.parametrize("event_id", ["", "x" * 129])
def test_an_event_without_a_usable_id_is_refused(event_id: str) -> None:
    with pytest.raises(MalformedWebhook):
        webhook.parse({"x-razorpay-event-id": event_id}, raw())
