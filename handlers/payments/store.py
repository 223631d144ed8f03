"""Rows of `deposits` as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.money import Money
from handlers.payments.rules import Deposit
from storage import sql

Q = sql.load(__package__)


def deposit(row: Mapping[str, Any] | None) -> Deposit | None:
    """The dataclass of a row; None stays None."""
    if row is None:
        return None
    fields = dict(row)
    amount = Money(fields.pop("amount"), fields.pop("currency"))
    return Deposit(amount=amount, **fields)
