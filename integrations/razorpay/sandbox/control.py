"""The control API and the overview of this vendor: not part of Razorpay, hence under /_sandbox."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from integrations.razorpay.sandbox.api import MAX_TIME
from integrations.razorpay.sandbox.entities import order_entity, payment_entity
from integrations.razorpay.sandbox.state import STATE
from integrations.sandbox_pages import Action, Link, Section, rupees

LIMIT: Final = 100


def add_routes(app: web.Application) -> None:
    """Serve the control API."""
    app.router.add_get("/_sandbox/orders", list_orders)
    app.router.add_get("/_sandbox/payments", list_payments)
    app.router.add_get("/_sandbox/events", list_events)
    app.router.add_get("/_sandbox/deliveries", list_deliveries)
    app.router.add_post("/_sandbox/events/{event_id}/redeliver", redeliver_event)
    app.router.add_get("/_sandbox/knobs", show_knobs)
    app.router.add_post("/_sandbox/knobs", turn_knobs)


async def list_orders(request: web.Request) -> web.Response:
    """Newest orders."""
    rows = request.app[STATE].store.orders(0, MAX_TIME, LIMIT, 0)
    return web.json_response({"items": [order_entity(row) for row in rows]})


async def list_payments(request: web.Request) -> web.Response:
    """Newest payments."""
    rows = request.app[STATE].store.payments(0, MAX_TIME, LIMIT, 0)
    return web.json_response({"items": [payment_entity(row) for row in rows]})


async def list_events(request: web.Request) -> web.Response:
    """Newest events, each with the state of its delivery."""
    rows = request.app[STATE].store.events(LIMIT)
    return web.json_response({"items": [_event(row) for row in rows]})


async def list_deliveries(request: web.Request) -> web.Response:
    """Newest attempts at delivery; `?event_id=` for those of one event."""
    rows = request.app[STATE].store.deliveries(LIMIT, event_id=request.query.get("event_id"))
    return web.json_response({"items": [_delivery(row) for row in rows]})


async def redeliver_event(request: web.Request) -> web.Response:
    """Send an event once more, now, under the same id. A browser is sent back to the overview."""
    state = request.app[STATE]
    event_id = request.match_info["event_id"]
    if state.store.event(event_id) is None:
        return web.json_response({"error": "no such event"}, status=404)
    state.desk.redeliver(event_id)
    if "text/html" in request.headers.get("Accept", ""):
        raise web.HTTPSeeOther("/")
    return web.json_response({"event_id": event_id}, status=202)


async def show_knobs(request: web.Request) -> web.Response:
    """Where every knob stands."""
    return web.json_response(request.app[STATE].knobs.shown())


async def turn_knobs(request: web.Request) -> web.Response:
    """Turn some knobs; the body is a JSON object of knob and number."""
    knobs = request.app[STATE].knobs
    try:
        values = json.loads(await request.read())
        if not isinstance(values, dict):
            raise ValueError("the body must be a JSON object")
        knobs.turn(values)
    except ValueError as fault:
        return web.json_response({"error": str(fault)}, status=400)
    return web.json_response(knobs.shown())


def overview(app: web.Application) -> list[Section]:
    """The tables of the overview page."""
    store = app[STATE].store
    return [
        Section(
            title="Razorpay orders",
            link=Link("JSON", "/_sandbox/orders"),
            columns=("Order", "Receipt", "Amount", "Status", "Attempts", "Created"),
            rows=[
                [row["id"], row["receipt"], rupees(row["amount"]), row["status"], row["attempts"], _when(row)]
                for row in store.orders(0, MAX_TIME, 20, 0)
            ],
            empty="No order yet.",
        ),
        Section(
            title="Razorpay payments",
            link=Link("JSON", "/_sandbox/payments"),
            columns=("Payment", "Order", "Amount", "Status", "Method", "Created"),
            rows=[
                [row["id"], row["order_id"], rupees(row["amount"]), row["status"], row["method"], _when(row)]
                for row in store.payments(0, MAX_TIME, 20, 0)
            ],
            empty="No payment yet.",
        ),
        Section(
            title="Razorpay webhook events",
            link=Link("JSON", "/_sandbox/events"),
            columns=("Event", "Kind", "About", "State", "Attempts", "Created", "Deliveries", "Again"),
            rows=[
                [
                    row["id"],
                    row["name"],
                    row["entity_id"],
                    row["state"],
                    row["attempts"],
                    _when(row),
                    Link("deliveries", f"/_sandbox/deliveries?event_id={row['id']}"),
                    Action("redeliver", f"/_sandbox/events/{row['id']}/redeliver"),
                ]
                for row in store.events(20)
            ],
            empty="No event yet.",
        ),
    ]


def _event(row: sqlite3.Row) -> dict[str, Any]:
    fields = ("id", "name", "entity_id", "state", "attempts", "created_at", "next_attempt_at")
    return {field: row[field] for field in fields} | {"body": json.loads(row["body"])}


def _delivery(row: sqlite3.Row) -> dict[str, Any]:
    fields = ("id", "event_id", "name", "attempted_at", "status", "outcome", "duration_ms")
    return {field: row[field] for field in fields}


def _when(row: sqlite3.Row) -> str:
    return datetime.fromtimestamp(row["created_at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
