"""Razorpay's REST API for orders and payments, behind HTTP Basic.

Source: razorpay.com/docs api/authentication, api/orders, api/payments (read 2026-04).
"""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from integrations.razorpay.sandbox import faults
from integrations.razorpay.sandbox.entities import collection, order_entity, payment_entity
from integrations.razorpay.sandbox.faults import Fault
from integrations.razorpay.sandbox.state import STATE, State

MIN_AMOUNT: Final = 100
MIN_TIME, MAX_TIME = 946_684_800, 4_765_046_400
HANG_S: Final = 60.0

_ORDER_FIELDS: Final = {"amount", "currency", "receipt", "notes", "payment", "partial_payment"}

Endpoint = Callable[[web.Request, State], Awaitable[dict[str, Any]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(app: web.Application) -> None:
    """Serve /v1; what is no resource answers 404 as Razorpay does."""
    app.router.add_post("/v1/orders", _endpoint(create_order))
    app.router.add_get("/v1/orders", _endpoint(list_orders))
    app.router.add_get("/v1/orders/{order_id}", _endpoint(fetch_order))
    app.router.add_get("/v1/orders/{order_id}/payments", _endpoint(list_order_payments))
    app.router.add_get("/v1/payments", _endpoint(list_payments))
    app.router.add_get("/v1/payments/{payment_id}", _endpoint(fetch_payment))
    app.router.add_post("/v1/payments/{payment_id}/capture", _endpoint(capture_payment))
    app.router.add_route("*", "/v1/{tail:.*}", _endpoint(no_resource))


async def create_order(request: web.Request, state: State) -> dict[str, Any]:
    """POST /v1/orders."""
    body = await _document(request)
    unknown = sorted(body.keys() - _ORDER_FIELDS)
    if unknown:
        raise Fault(f"{', '.join(unknown)} is/are not required and should not be sent")
    return state.desk.create_order(
        {
            "amount": _amount(body),
            "currency": _currency(body),
            "receipt": _receipt(body),
            "notes": _notes(body),
            "capture": _capture_mode(body),
        }
    )


async def fetch_order(request: web.Request, state: State) -> dict[str, Any]:
    """GET /v1/orders/:id."""
    row = state.store.order(request.match_info["order_id"])
    if row is None:
        raise faults.no_such_id()
    return order_entity(row)


async def list_orders(request: web.Request, state: State) -> dict[str, Any]:
    """GET /v1/orders."""
    return collection(map(order_entity, state.store.orders(*_page(request))))


async def list_order_payments(request: web.Request, state: State) -> dict[str, Any]:
    """GET /v1/orders/:id/payments."""
    order_id = request.match_info["order_id"]
    if state.store.order(order_id) is None:
        raise faults.no_such_id()
    return collection(map(payment_entity, state.store.payments_of(order_id)))


async def list_payments(request: web.Request, state: State) -> dict[str, Any]:
    """GET /v1/payments."""
    return collection(map(payment_entity, state.store.payments(*_page(request))))


async def fetch_payment(request: web.Request, state: State) -> dict[str, Any]:
    """GET /v1/payments/:id."""
    row = state.store.payment(request.match_info["payment_id"])
    if row is None:
        raise faults.no_such_id()
    return payment_entity(row)


async def capture_payment(request: web.Request, state: State) -> dict[str, Any]:
    """POST /v1/payments/:id/capture."""
    body = await _document(request)
    return state.desk.capture(request.match_info["payment_id"], amount=_amount(body), currency=_currency(body))


async def no_resource(request: web.Request, state: State) -> dict[str, Any]:
    """Anything else below /v1."""
    raise faults.not_found()


def _endpoint(endpoint: Endpoint) -> Handler:
    """Authenticate, obey the knobs, and write faults as Razorpay does."""

    async def handle(request: web.Request) -> web.StreamResponse:
        state = request.app[STATE]
        try:
            _authenticate(request, state)
            if state.knobs.take("http_500_next"):
                page = "<html><body><h1>500 Internal Server Error</h1></body></html>"
                return web.Response(status=500, text=page, content_type="text/html")
            answer = web.json_response(await endpoint(request, state))
        except Fault as fault:
            answer = web.json_response(fault.body(), status=fault.status)
        if state.knobs.take("timeout_next"):
            await _hang(request, state)
        return answer

    return handle


def _authenticate(request: web.Request, state: State) -> None:
    credentials = f"{state.config.key_id}:{state.config.key_secret}".encode()
    expected = b"Basic " + b64encode(credentials)  # the word is case-sensitive at Razorpay
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode("utf-8", "replace"), expected):
        raise faults.unauthenticated()


async def _hang(request: web.Request, state: State) -> None:
    """Keep silent until the caller gives up or the sandbox stops, then cut the connection."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HANG_S
    while request.transport is not None and not state.stopping.is_set() and loop.time() < deadline:
        try:
            await asyncio.wait_for(state.stopping.wait(), 0.05)
        except TimeoutError:
            continue
    if request.transport is not None:
        request.transport.abort()


async def _document(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Fault("The request body is not a JSON object")
    return body


def _amount(body: dict[str, Any]) -> int:
    amount = body.get("amount")
    if amount is None:
        raise Fault("The amount field is required.", field="amount")
    if type(amount) is not int:
        raise Fault("The amount must be an integer.", field="amount")
    if amount < MIN_AMOUNT:
        raise Fault("Order amount less than minimum amount allowed", field="amount")
    return amount


def _currency(body: dict[str, Any]) -> str:
    if body.get("currency") != "INR":
        raise Fault("Currency is not supported", field="currency")
    return "INR"


def _receipt(body: dict[str, Any]) -> str | None:
    receipt = body.get("receipt")
    if receipt is not None and not (isinstance(receipt, str) and len(receipt) <= 40):
        raise Fault("The receipt may not be greater than 40 characters.", field="receipt")
    return receipt


def _notes(body: dict[str, Any]) -> dict[str, str]:
    notes = body.get("notes") or {}
    if not isinstance(notes, dict) or len(notes) > 15:
        raise Fault("Number of fields in notes should be less than or equal to 15", field="notes")
    if any(not isinstance(value, str) or len(value) > 256 for value in notes.values()):
        raise Fault("Notes value should be a string of at most 256 characters", field="notes")
    return notes


def _capture_mode(body: dict[str, Any]) -> str:
    payment = body.get("payment") or {}
    mode = payment.get("capture", "automatic") if isinstance(payment, dict) else None
    if mode not in ("automatic", "manual"):
        raise Fault("The selected capture is invalid.", field="capture")
    return str(mode)


def _page(request: web.Request) -> tuple[int, int, int, int]:
    """Return (from, to, count, skip) as Razorpay's lists take them."""
    return (
        _number(request, "from", default=MIN_TIME, low=MIN_TIME, high=MAX_TIME),
        _number(request, "to", default=MAX_TIME, low=MIN_TIME, high=MAX_TIME),
        _number(request, "count", default=10, low=1, high=100),
        _number(request, "skip", default=0, low=0, high=MAX_TIME),
    )


def _number(request: web.Request, name: str, *, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise Fault(f"The {name} must be between {low} and {high}.", field=name)
    return int(text)
