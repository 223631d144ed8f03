"""What happens to orders and payments: each change and the events that tell it commit together.

    order    created ──attempt──▶ attempted ──capture──▶ paid
    payment  authorized ──capture──▶ captured            failed

Capture follows authorization at once unless the order asked for `manual`. An order with an authorized
or captured payment takes no other. Source: razorpay.com/docs payments/orders, api/payments/capture.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from integrations.razorpay.sandbox import faults
from integrations.razorpay.sandbox.entities import event_body, fee_of, new_id, order_entity, payment_entity
from integrations.razorpay.sandbox.faults import Fault
from integrations.razorpay.sandbox.knobs import Knobs
from integrations.razorpay.sandbox.store import Store


class Desk:
    """The only writer of orders, payments and new events. `on_event` is called after each commit."""

    def __init__(
        self,
        store: Store,
        knobs: Knobs,
        *,
        account_id: str,
        retry_window_s: float,
        on_event: Callable[[], None],
    ) -> None:
        self._store = store
        self._knobs = knobs
        self._account_id = account_id
        self._retry_window_s = retry_window_s
        self._on_event = on_event

    def create_order(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Open an order from validated fields."""
        order_id = new_id("order_")
        with self._store.transaction():
            self._store.add_order({**wanted, "id": order_id, "created_at": int(time.time())})
        return order_entity(self._order(order_id))

    def pay(self, order_id: str, *, method: str, payer: dict[str, Any]) -> str:
        """Take a successful payment and return its id."""
        with self._store.transaction():
            order = self._payable(order_id)
            payment_id = self._add_payment(order, "authorized", method=method, payer=payer, error_reason=None)
            self._tell("payment.authorized", payment_id)
            if order["capture"] == "automatic":
                self._capture(payment_id)
        self._on_event()
        return payment_id

    def fail(self, order_id: str, *, method: str, payer: dict[str, Any]) -> str:
        """Take an attempt that the bank declines, and return its id."""
        with self._store.transaction():
            order = self._payable(order_id)
            payment_id = self._add_payment(order, "failed", method=method, payer=payer, error_reason="payment_failed")
            self._tell("payment.failed", payment_id)
        self._on_event()
        return payment_id

    def capture(self, payment_id: str, *, amount: int, currency: str) -> dict[str, Any]:
        """Capture an authorized payment whole."""
        with self._store.transaction():
            payment = self._payment(payment_id)
            if payment["status"] == "captured":
                raise Fault("This payment has already been captured")
            if payment["status"] != "authorized":
                raise Fault("Only payments which have been authorized and not yet captured can be captured")
            if (amount, currency) != (payment["amount"], payment["currency"]):
                raise Fault("Capture amount must be equal to the amount authorized", field="amount")
            self._capture(payment_id)
        self._on_event()
        return payment_entity(self._payment(payment_id))

    def redeliver(self, event_id: str) -> None:
        """Deliver an event once more under the same id."""
        now = time.time()
        with self._store.transaction():
            self._store.revive_event(event_id, now=now, retry_until=now + self._retry_window_s)
        self._on_event()

    def _payable(self, order_id: str) -> sqlite3.Row:
        order = self._order(order_id)
        if order["status"] == "paid" or self._store.live_payment_of(order_id) is not None:
            raise faults.order_taken()
        return order

    def _add_payment(
        self, order: sqlite3.Row, status: str, *, method: str, payer: dict[str, Any], error_reason: str | None
    ) -> str:
        payment_id = new_id("pay_")
        self._store.add_payment(
            {
                **payer,
                "id": payment_id,
                "order_id": order["id"],
                "amount": order["amount"],
                "currency": order["currency"],
                "status": status,
                "method": method,
                "error_reason": error_reason,
                "created_at": int(time.time()),
            }
        )
        self._store.note_attempt(order["id"])
        return payment_id

    def _capture(self, payment_id: str) -> None:
        payment = self._payment(payment_id)
        fee, tax = fee_of(payment["amount"])
        self._store.mark_captured(payment_id, fee=fee, tax=tax)
        self._store.mark_order_paid(payment["order_id"])
        self._tell("payment.captured", payment_id)
        self._tell("order.paid", payment_id)

    def _tell(self, name: str, payment_id: str) -> None:
        """Store an event whose body shows the entities as they are at this very moment."""
        payment = self._payment(payment_id)
        entities = {"payment": payment_entity(payment)}
        if name == "order.paid":
            entities["order"] = order_entity(self._order(payment["order_id"]))
        now = time.time()
        self._store.add_event(
            {
                "id": new_id(),
                "name": name,
                "entity_id": payment_id,
                "body": event_body(self._account_id, name, entities=entities, created_at=int(now)),
                "copies": 1 + self._knobs.take_all("duplicate"),
                "created_at": now,
                "retry_until": now + self._retry_window_s,
                "next_attempt_at": now + self._knobs.delay_ms / 1000,
            }
        )

    def _order(self, order_id: str) -> sqlite3.Row:
        row = self._store.order(order_id)
        if row is None:
            raise faults.no_such_id()
        return row

    def _payment(self, payment_id: str) -> sqlite3.Row:
        row = self._store.payment(payment_id)
        if row is None:
            raise faults.no_such_id()
        return row


def payer_of(checkout: sqlite3.Row) -> dict[str, Any]:
    """What the merchant's form said about the payer and the purchase."""
    fields: dict[str, str] = json.loads(checkout["fields"])
    return {
        "description": fields.get("description"),
        "email": fields.get("prefill[email]"),
        "contact": fields.get("prefill[contact]"),
        "notes": {
            name.removeprefix("notes[").removesuffix("]"): value
            for name, value in fields.items()
            if name.startswith("notes[")
        },
    }
