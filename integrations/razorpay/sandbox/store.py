"""What the sandbox remembers, in SQLite: one connection, used from one event loop."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCHEMA = Path(__file__).with_name("schema.sql")


class Store:
    """Rows in, rows out. Writes belong inside `transaction`; one commit holds a change and its events."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = wal")
        self._db.execute("PRAGMA foreign_keys = on")
        self._db.execute("PRAGMA busy_timeout = 5000")
        self._db.executescript(_SCHEMA.read_text("utf-8"))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Never await inside."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _one(self, statement: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(statement, values).fetchone()
        return row

    def _all(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(statement, values).fetchall()

    # orders

    def add_order(self, order: dict[str, Any]) -> None:
        """Store a new order."""
        self._db.execute(
            "INSERT INTO razorpay_orders (id, amount, currency, receipt, notes, capture, created_at)"
            " VALUES (:id, :amount, :currency, :receipt, :notes, :capture, :created_at)",
            {**order, "notes": json.dumps(order["notes"])},
        )

    def order(self, order_id: str) -> sqlite3.Row | None:
        """One order."""
        return self._one("SELECT * FROM razorpay_orders WHERE id = ?", order_id)

    def orders(self, since: int, until: int, count: int, skip: int) -> list[sqlite3.Row]:
        """A page of orders, newest first."""
        return self._page("razorpay_orders", since, until, count, skip)

    def note_attempt(self, order_id: str) -> None:
        """Count a payment attempt."""
        self._db.execute(
            "UPDATE razorpay_orders SET attempts = attempts + 1,"
            " status = CASE status WHEN 'created' THEN 'attempted' ELSE status END WHERE id = ?",
            (order_id,),
        )

    def mark_order_paid(self, order_id: str) -> None:
        """The order got its money."""
        self._db.execute("UPDATE razorpay_orders SET status = 'paid', amount_paid = amount WHERE id = ?", (order_id,))

    # checkouts

    def add_checkout(self, checkout_id: str, order_id: str, fields: dict[str, str], created_at: int) -> None:
        """Remember what the merchant's form asked hosted checkout for."""
        self._db.execute(
            "INSERT INTO razorpay_checkouts (id, order_id, fields, created_at) VALUES (?, ?, ?, ?)",
            (checkout_id, order_id, json.dumps(fields), created_at),
        )

    def checkout(self, checkout_id: str) -> sqlite3.Row | None:
        """One visit to hosted checkout."""
        return self._one("SELECT * FROM razorpay_checkouts WHERE id = ?", checkout_id)

    # payments

    def add_payment(self, payment: dict[str, Any]) -> None:
        """Store a new payment attempt."""
        self._db.execute(
            "INSERT INTO razorpay_payments (id, order_id, amount, currency, status, method, description,"
            " email, contact, notes, error_reason, created_at)"
            " VALUES (:id, :order_id, :amount, :currency, :status, :method, :description,"
            " :email, :contact, :notes, :error_reason, :created_at)",
            {**payment, "notes": json.dumps(payment["notes"])},
        )

    def payment(self, payment_id: str) -> sqlite3.Row | None:
        """One payment."""
        return self._one("SELECT * FROM razorpay_payments WHERE id = ?", payment_id)

    def payments(self, since: int, until: int, count: int, skip: int) -> list[sqlite3.Row]:
        """A page of payments, newest first."""
        return self._page("razorpay_payments", since, until, count, skip)

    def payments_of(self, order_id: str) -> list[sqlite3.Row]:
        """Every attempt to pay one order, newest first."""
        return self._all("SELECT * FROM razorpay_payments WHERE order_id = ? ORDER BY rowid DESC", order_id)

    def live_payment_of(self, order_id: str) -> sqlite3.Row | None:
        """The attempt that holds the order's money, if any."""
        return self._one(
            "SELECT * FROM razorpay_payments WHERE order_id = ? AND status IN ('authorized', 'captured')",
            order_id,
        )

    def mark_captured(self, payment_id: str, *, fee: int, tax: int) -> None:
        """The payment's money is the merchant's now."""
        self._db.execute(
            "UPDATE razorpay_payments SET status = 'captured', fee = ?, tax = ? WHERE id = ?",
            (fee, tax, payment_id),
        )

    def _page(self, table: str, since: int, until: int, count: int, skip: int) -> list[sqlite3.Row]:
        return self._all(
            f"SELECT * FROM {table} WHERE created_at BETWEEN ? AND ?"  # noqa: S608 - two literals of ours
            " ORDER BY rowid DESC LIMIT ? OFFSET ?",
            since,
            until,
            count,
            skip,
        )

    # events and deliveries

    def add_event(self, event: dict[str, Any]) -> None:
        """Store an event to be delivered."""
        self._db.execute(
            "INSERT INTO razorpay_events"
            " (id, name, entity_id, body, state, copies, created_at, retry_until, next_attempt_at)"
            " VALUES (:id, :name, :entity_id, :body, 'pending', :copies, :created_at, :retry_until,"
            " :next_attempt_at)",
            event,
        )

    def event(self, event_id: str) -> sqlite3.Row | None:
        """One event."""
        return self._one("SELECT * FROM razorpay_events WHERE id = ?", event_id)

    def events(self, limit: int) -> list[sqlite3.Row]:
        """Newest events first."""
        return self._all("SELECT * FROM razorpay_events ORDER BY rowid DESC LIMIT ?", limit)

    def pending_events(self) -> list[sqlite3.Row]:
        """Every event that still has to reach the merchant."""
        return self._all("SELECT * FROM razorpay_events WHERE state = 'pending'")

    def settle_event(self, event_id: str, *, state: str, copies: int, next_attempt_at: float) -> None:
        """Keep what an attempt at delivery came to."""
        self._db.execute(
            "UPDATE razorpay_events SET state = ?, attempts = attempts + 1, copies = ?, next_attempt_at = ?"
            " WHERE id = ?",
            (state, copies, next_attempt_at, event_id),
        )

    def revive_event(self, event_id: str, *, now: float, retry_until: float) -> None:
        """Deliver an event once more, from the beginning."""
        self._db.execute(
            "UPDATE razorpay_events SET state = 'pending', attempts = 0, copies = 1, next_attempt_at = ?,"
            " retry_until = ? WHERE id = ?",
            (now, retry_until, event_id),
        )

    def add_delivery(self, delivery: dict[str, Any]) -> None:
        """Store one attempt at delivery."""
        self._db.execute(
            "INSERT INTO razorpay_deliveries (event_id, attempted_at, status, outcome, duration_ms)"
            " VALUES (:event_id, :attempted_at, :status, :outcome, :duration_ms)",
            delivery,
        )

    def deliveries(self, limit: int, *, event_id: str | None = None) -> list[sqlite3.Row]:
        """Newest attempts first, of one event or of all."""
        return self._all(
            "SELECT d.*, e.name FROM razorpay_deliveries AS d JOIN razorpay_events AS e ON e.id = d.event_id"
            " WHERE ?1 IS NULL OR d.event_id = ?1 ORDER BY d.id DESC LIMIT ?2",
            event_id,
            limit,
        )
