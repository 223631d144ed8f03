"""What Razorpay says when it refuses, in its own words and shape.

Source: razorpay.com/docs errors, api/orders/create, api/payments/capture (read 2026-04). The wording
for a second payment of a paid order is not published; the rule is (payments/orders).
"""

from __future__ import annotations

from typing import Any


class Fault(Exception):
    """A refusal; `body()` is the JSON that goes on the wire."""

    def __init__(
        self,
        description: str,
        *,
        status: int = 400,
        field: str | None = None,
        reason: str = "input_validation_failed",
        source: str = "business",
        step: str = "payment_initiation",
    ) -> None:
        super().__init__(description)
        self.status = status
        self.error: dict[str, Any] = {
            "code": "BAD_REQUEST_ERROR",
            "description": description,
            "source": source,
            "step": step,
            "reason": reason,
            "metadata": {},
        }
        if field is not None:
            self.error["field"] = field

    def body(self) -> dict[str, Any]:
        """The error document."""
        return {"error": self.error}


def unauthenticated() -> Fault:
    """Wrong or missing API keys."""
    return Fault("Authentication failed", status=401, reason="NA", source="NA", step="NA")


def not_found() -> Fault:
    """A path that is no resource."""
    return Fault("The requested URL was not found on the server.", status=404, reason="NA", source="NA", step="NA")


def no_such_id() -> Fault:
    """An id that names nothing; Razorpay answers 400, not 404."""
    return Fault("The id provided does not exist", field="id")


def order_taken() -> Fault:
    """An order that is paid, or has an authorized payment, takes no other."""
    return Fault(
        "Payment is not allowed: this order has already been paid",
        reason="order_already_paid",
        source="customer",
    )
