"""Rows of `deposits` as dataclasses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from contracts.money import Money
from handlers.payments.rules import Deposit
from storage import sql
from storage.db import Connection

Q = sql.load(__package__)


def deposit(row: Mapping[str, Any] | None) -> Deposit | None:
    """The dataclass of a row; None stays None."""
    if row is None:
        return None
    fields = dict(row)
    amount = Money(fields.pop("amount"), fields.pop("currency"))
    return Deposit(amount=amount, **fields)


async def started_among(conn: Connection, asked: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of the pairs of user and deposit where the user started the deposit."""
    users, deposits = [user_id for user_id, _ in asked], [deposit_id for _, deposit_id in asked]
    return {(row["user_id"], row["id"]) for row in await Q.started_among(conn, users=users, deposits=deposits)}
