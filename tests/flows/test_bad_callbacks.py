"""What comes in a gateway's name and is not the gateway's: each gets its exact answer, and nothing is written."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
import requests

from contracts import ids
from integrations.razorpay.sandbox.signing import sign_webhook
from matchday.browser import Form
from tests.client import Client, refused
from tests.stack import Stack, only_written

DEPOSITS = "/v1/payments/deposits"
WEBHOOK = "/v1/webhooks/razorpay"
MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}


def webhook(
    stack: Stack, raw: bytes, *, event_id: str | None = None, signature: str | None = None
) -> requests.Response:
    """Deliver bytes as the gateway does, rightly signed unless told otherwise."""
    secret = stack.config.razorpay_webhook_secrets[0]
    headers = JSON | {
        "X-Razorpay-Signature": signature or sign_webhook(secret, raw),
        "x-razorpay-event-id": event_id or secrets.token_hex(7),
    }
    with stack.client() as gateway:
        return gateway.request("POST", WEBHOOK, data=raw, headers=headers)


def captured(payment_id: str, order_id: str) -> bytes:
    entity = {"id": payment_id, "order_id": order_id, "status": "captured", "amount": 50000, "currency": "INR"}
    event = {
        "entity": "event", "event": "payment.captured", "payload": {"payment": {"entity": entity}},
        "created_at": 1700000060,
    }  # fmt: skip
    return json.dumps(event).encode()


# Webhooks


def test_a_webhook_with_a_wrong_signature_is_not_stored(stack: Stack) -> None:
    raw = captured("pay_SbxPay00000001", "order_SbxOrd00000001")
    forged = [
        "0" * 64,
        sign_webhook("a secret of somebody else", raw),
        sign_webhook(stack.config.razorpay_webhook_secrets[0], raw + b" "),
        sign_webhook(stack.config.razorpay_key_secret, raw),
    ]
    with only_written(stack):
        for signature in forged:
            response = webhook(stack, raw, signature=signature)
            refused(response, 401, "webhook.unsigned", hidden=signature)
            assert response.headers["WWW-Authenticate"] == 'HMAC realm="razorpay"'


@pytest.mark.parametrize(
    ("header", "value", "rules"),
    [
        ("X-Razorpay-Signature", None, ["required"]),
        ("X-Razorpay-Signature", "abc", ["minLength", "pattern"]),
        ("x-razorpay-event-id", None, ["required"]),
        ("x-razorpay-event-id", "a b", ["pattern"]),
        ("x-razorpay-event-id", "x" * 101, ["maxLength", "pattern"]),
    ],
)
def test_a_webhook_without_its_headers_is_not_stored(
    header: str, value: str | None, rules: list[str], stack: Stack
) -> None:
    raw = captured("pay_SbxPay00000001", "order_SbxOrd00000001")
    signature = sign_webhook(stack.config.razorpay_webhook_secrets[0], raw)
    headers: dict[str, str | None] = {"X-Razorpay-Signature": signature, "x-razorpay-event-id": "SbxEvt00000001"}
    with stack.client() as gateway, only_written(stack):
        response = gateway.request("POST", WEBHOOK, data=raw, headers={**JSON, **headers, header: value})
    refused(response, 400, "contract.parameter", *((f"#/header/{header}", rule) for rule in rules))


def test_a_replayed_webhook_is_known_and_credits_once(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    order_id, payment_id = paid[0]["gateway_order_id"], paid[0]["gateway_payment_id"]
    events = player.control("GET", "/_sandbox/events")
    delivered = next(e for e in events if (e["name"], e["entity_id"]) == ("payment.captured", payment_id))
    balance = player.call("GET", "/v1/wallet/balance", expect=200)
    with only_written(stack):
        for _ in range(3):
            response = webhook(stack, captured(payment_id, order_id), event_id=delivered["id"])
            assert (response.status_code, response.json()) == (200, {"receipt": "duplicate"})
    with only_written(stack, inbox=1):  # an event of its own about the same payment is new, and changes nothing
        response = webhook(stack, captured(payment_id, order_id))
        assert (response.status_code, response.json()) == (200, {"receipt": "accepted"})
    assert player.call("GET", "/v1/wallet/balance", expect=200) == balance


def test_a_webhook_of_a_kind_we_have_no_use_for_is_taken_and_ignored(stack: Stack) -> None:
    raw = json.dumps({"entity": "event", "event": "subscription.charged", "payload": {}}).encode()
    with only_written(stack, inbox=1):
        response = webhook(stack, raw, event_id="IgnoredEvent01")
        again = webhook(stack, raw, event_id="IgnoredEvent01")
    assert (response.status_code, response.json()) == (200, {"receipt": "ignored"})
    assert (again.status_code, again.json()) == (200, {"receipt": "ignored"})
    assert stack.row("SELECT state FROM inbox WHERE event_key = %s", "IgnoredEvent01") == ("ignored",)


@pytest.mark.parametrize(
    "raw",
    [
        captured("pay_SbxPay00000001", "order_SbxOrd00000001").replace(b"50000", b"NaN"),
        captured("pay_SbxPay00000001", "order_SbxOrd00000001").replace(b"1700000060", b"Infinity"),
        b"not JSON", b"[]", b"{}", b'{"event":"payment.captured"}', b'{"event":7}',
    ],
)  # fmt: skip
def test_a_signed_webhook_that_cannot_be_read_is_refused(raw: bytes, stack: Stack) -> None:
    with only_written(stack):
        response = webhook(stack, raw)
    refused(response, 400, "webhook.malformed")


def test_a_webhook_of_two_mebibytes_is_too_large(stack: Stack) -> None:
    raw = json.dumps({"event": "payment.captured", "padding": "x" * 2 * MEBIBYTE}).encode()
    with only_written(stack):
        response = webhook(stack, raw)
    refused(response, 413, "contract.too_large")


# The browser's way back


def test_a_checkout_that_nobody_opened_is_unknown(stack: Stack) -> None:
    path = f"/v1/payments/checkouts/{ids.new('chk')}"
    with stack.client() as browser, only_written(stack):
        refused(browser.request("GET", path), 404, "checkout.unknown")
        refused(browser.request("GET", f"{path}/result"), 404, "checkout.unknown")
        refused(browser.request("POST", f"{path}/return", data={"razorpay_payment_id": "x"}), 404, "checkout.unknown")


def return_path(deposited: dict[str, Any]) -> str:
    return "/v1/payments/checkouts/" + str(deposited["checkout_url"]).rsplit("/", 1)[1] + "/return"


@pytest.mark.parametrize(
    "form",
    [
        {"razorpay_payment_id": "pay_SbxPay00000001", "razorpay_order_id": "order_SbxOrd00000001"},
        {"razorpay_payment_id": "pay_SbxPay00000001", "razorpay_signature": "0" * 64},
        {"razorpay_payment_id": "pay_SbxPay00000001", "razorpay_signature": ""},
        {"hello": "world"},
    ],
)
def test_a_return_that_the_gateway_did_not_sign_is_refused(form: dict[str, str], player: Client, stack: Stack) -> None:
    opened = player.start_deposit()
    with stack.client() as browser, only_written(stack):
        response = browser.request("POST", return_path(opened), data=form)
    refused(response, 422, "payments.return_unsigned", hidden="pay_SbxPay00000001")


def test_a_return_signed_for_another_order_is_refused(
    player: Client, stack: Stack, paid: tuple[dict[str, Any], Form]
) -> None:
    opened = player.start_deposit()
    fields = paid[1].fields
    for form in (fields, {**fields, "razorpay_order_id": opened["gateway_order_id"]}):
        with stack.client() as browser, only_written(stack):
            response = browser.request("POST", return_path(opened), data=form)
        refused(response, 422, "payments.return_unsigned", hidden=fields["razorpay_signature"])


def test_a_failure_that_only_the_browser_tells_of_changes_nothing(player: Client, stack: Stack) -> None:
    opened = player.start_deposit()
    metadata = {"payment_id": "pay_SbxPay00000001", "order_id": opened["gateway_order_id"]}
    form = {"error[code]": "BAD_REQUEST_ERROR", "error[metadata]": json.dumps(metadata)}
    with stack.client() as browser, only_written(stack):
        response = browser.request("POST", return_path(opened), data=form)
    result = return_path(opened).removesuffix("return") + "result"
    assert (response.status_code, response.headers["Location"]) == (303, result)
    assert player.call("GET", f"{DEPOSITS}/{opened['deposit_id']}", expect=200) == opened


def test_a_return_that_is_no_form_is_refused(player: Client, stack: Stack) -> None:
    opened = player.start_deposit()
    too_many = "&".join(f"field{number}=x" for number in range(101))
    with stack.client() as browser, only_written(stack):
        for raw in (b"razorpay_payment_id=\xff", b"%FF=x", too_many.encode()):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = browser.request("POST", return_path(opened), data=raw, headers=headers)
            refused(response, 400, "payments.return_malformed")
