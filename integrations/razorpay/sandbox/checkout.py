"""Hosted checkout: the page a person pays on, and the form it sends the browser back with.

Source: razorpay.com/docs payment-gateway/web-integration/hosted/integration-steps (read 2026-04). The
names of the failure fields are not in the documents; they are those that public integrations read.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from integrations.razorpay.sandbox import faults
from integrations.razorpay.sandbox.desk import payer_of
from integrations.razorpay.sandbox.entities import new_id
from integrations.razorpay.sandbox.faults import Fault
from integrations.razorpay.sandbox.signing import sign_checkout
from integrations.razorpay.sandbox.state import STATE, State
from integrations.sandbox_pages import Pages

METHODS: Final = {
    "upi": ("UPI", "Any UPI app, success@razorpay"),
    "card": ("Card", "Visa, Mastercard, RuPay; no details are asked here"),
    "netbanking": ("Netbanking", "HDFC Bank"),
}

pages = Pages(__package__)


def add_routes(app: web.Application) -> None:
    """Serve hosted checkout. Must be added before the API, which claims the rest of /v1."""
    app.router.add_post("/v1/checkout/embedded", open_checkout)
    app.router.add_post("/v1/checkout/{checkout_id}", submit_checkout)


async def open_checkout(request: web.Request) -> web.Response:
    """Check the merchant's form and show the page to pay on."""
    state = request.app[STATE]
    form = await _fields(request)
    try:
        order = _check(form, state)
    except Fault as fault:
        return _refusal(fault, cancel_url=_web_url(form, "cancel_url"))
    checkout_id = new_id("chk_")
    with state.store.transaction():
        state.store.add_checkout(checkout_id, order["id"], form, int(time.time()))
    return pages.render("checkout.html", checkout_id=checkout_id, form=form, order=order, methods=METHODS, title="Pay")


async def submit_checkout(request: web.Request) -> web.Response:
    """Pay or fail as the person chose, and send the browser back to the merchant."""
    state = request.app[STATE]
    checkout = state.store.checkout(request.match_info["checkout_id"])
    if checkout is None:
        return _refusal(faults.no_such_id(), cancel_url=None)
    choice = await _fields(request)
    form: dict[str, str] = json.loads(checkout["fields"])
    try:
        if choice.get("method") not in METHODS or choice.get("action") not in ("pay", "fail"):
            raise Fault("Choose how to pay")
        fields = _settle(state, checkout, choice)
    except Fault as fault:
        return _refusal(fault, cancel_url=_web_url(form, "cancel_url"))
    return pages.render("return.html", url=form["callback_url"], fields=fields, title="Returning")


def _settle(state: State, checkout: sqlite3.Row, choice: Mapping[str, str]) -> dict[str, str]:
    order_id: str = checkout["order_id"]
    payer = payer_of(checkout)
    if choice["action"] == "pay":
        payment_id = state.desk.pay(order_id, method=choice["method"], payer=payer)
        return {
            "razorpay_payment_id": payment_id,
            "razorpay_order_id": order_id,
            "razorpay_signature": sign_checkout(state.config.key_secret, order_id=order_id, payment_id=payment_id),
        }
    payment_id = state.desk.fail(order_id, method=choice["method"], payer=payer)
    return {
        "error[code]": "BAD_REQUEST_ERROR",
        "error[description]": "Payment failed",
        "error[source]": "bank",
        "error[step]": "payment_authorization",
        "error[reason]": "payment_failed",
        "error[metadata]": json.dumps({"payment_id": payment_id, "order_id": order_id}),
    }


def _check(form: Mapping[str, str], state: State) -> sqlite3.Row:
    if not hmac.compare_digest(form.get("key_id", "").encode(), state.config.key_id.encode()):
        raise faults.unauthenticated()
    order = state.store.order(form.get("order_id", ""))
    if order is None:
        raise faults.no_such_id()
    if form.get("amount", str(order["amount"])) != str(order["amount"]):
        raise Fault("Payment amount is different from the order amount", field="amount")
    if form.get("currency", order["currency"]) != order["currency"]:
        raise Fault("Payment currency is different from the order currency", field="currency")
    for field in ("callback_url", "cancel_url"):
        if _web_url(form, field) is None:
            raise Fault(f"The {field} is not a valid URL.", field=field)
    if order["status"] == "paid" or state.store.live_payment_of(order["id"]) is not None:
        raise faults.order_taken()
    return order


def _refusal(fault: Fault, *, cancel_url: str | None) -> web.Response:
    return pages.render(
        "refused.html",
        status=fault.status,
        description=str(fault),
        cancel_url=cancel_url,
        title="Payment not possible",
    )


def _web_url(form: Mapping[str, str], field: str) -> str | None:
    """Return a form's URL when a browser may be sent there."""
    url = form.get(field, "")
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


async def _fields(request: web.Request) -> dict[str, str]:
    form: Mapping[str, Any] = await request.post()
    return {name: value for name, value in form.items() if isinstance(value, str)}
