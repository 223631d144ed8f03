"""Rows as Razorpay writes them: orders, payments, collections and event bodies.

Source: razorpay.com/docs api/orders/entity, api/payments/entity, webhooks/payments (read 2026-04).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import string
from collections.abc import Iterable
from typing import Any

_ALPHANUMERIC = string.digits + string.ascii_letters

_INSTRUMENTS = {
    "upi": {"vpa": "success@razorpay"},
    "card": {"card_id": "card_SbxCard0000001"},
    "netbanking": {"bank": "HDFC"},
}
_ACQUIRER = {"upi": "rrn", "card": "auth_code", "netbanking": "bank_transaction_id"}


def new_id(prefix: str = "") -> str:
    """Return a prefix and 14 letters and digits. Event ids have no prefix."""
    return prefix + "".join(secrets.choice(_ALPHANUMERIC) for _ in range(14))


def notes_json(stored: str) -> Any:
    """An empty `notes` comes back as an array, as Razorpay's does."""
    return json.loads(stored) or []


def order_entity(row: sqlite3.Row) -> dict[str, Any]:
    """An order on the wire."""
    return {
        "id": row["id"],
        "entity": "order",
        "amount": row["amount"],
        "amount_paid": row["amount_paid"],
        "amount_due": row["amount"] - row["amount_paid"],
        "currency": row["currency"],
        "receipt": row["receipt"],
        "offer_id": None,
        "status": row["status"],
        "attempts": row["attempts"],
        "notes": notes_json(row["notes"]),
        "created_at": row["created_at"],
    }


def payment_entity(row: sqlite3.Row) -> dict[str, Any]:
    """A payment on the wire. `fee` includes `tax`, and both are null until it is captured."""
    failed = row["status"] == "failed"
    return {
        "id": row["id"],
        "entity": "payment",
        "amount": row["amount"],
        "currency": row["currency"],
        "base_amount": row["amount"],
        "status": row["status"],
        "order_id": row["order_id"],
        "invoice_id": None,
        "international": False,
        "method": row["method"],
        "amount_refunded": 0,
        "refund_status": None,
        "captured": row["status"] == "captured",
        "description": row["description"],
        "card_id": None,
        "bank": None,
        "wallet": None,
        "vpa": None,
        **_INSTRUMENTS[row["method"]],
        "email": row["email"],
        "contact": row["contact"],
        "notes": notes_json(row["notes"]),
        "fee": row["fee"],
        "tax": row["tax"],
        "error_code": "BAD_REQUEST_ERROR" if failed else None,
        "error_description": "Payment failed" if failed else None,
        "error_source": "bank" if failed else None,
        "error_step": "payment_authorization" if failed else None,
        "error_reason": row["error_reason"],
        "acquirer_data": {_ACQUIRER[row["method"]]: None if failed else "000000000001"},
        "created_at": row["created_at"],
    }


def collection(items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The envelope of every list."""
    listed = list(items)
    return {"entity": "collection", "count": len(listed), "items": listed}


def event_body(account_id: str, name: str, *, entities: dict[str, dict[str, Any]], created_at: int) -> bytes:
    """The exact bytes of an event.

    Compact, non-ASCII and slashes escaped: legal JSON that no common serialiser writes the same way, so a
    receiver that checks the signature over parsed and re-written JSON fails here as it would in earnest.
    """
    document = {
        "entity": "event",
        "account_id": account_id,
        "event": name,
        "contains": list(entities),
        "payload": {kind: {"entity": entity} for kind, entity in entities.items()},
        "created_at": created_at,
    }
    return json.dumps(document, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def fee_of(amount: int) -> tuple[int, int]:
    """Return (fee, tax) in paise: 2 % commission, 18 % GST on it, each rounded half up; fee includes tax."""
    commission = (amount * 200 + 5_000) // 10_000
    tax = (commission * 1_800 + 5_000) // 10_000
    return commission + tax, tax
