"""The open holds of an account: money that is set aside on it, or on its way to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts import ids
from contracts.money import Money
from ledger.accounts import Account
from ledger.reading import NEWEST, Q
from storage import sql
from storage.db import Connection

Direction = Literal["out", "in"]


@dataclass(frozen=True, slots=True)
class HoldState:
    """What became of a hold so far, as one of its two accounts sees it."""

    hold_id: str
    direction: Direction
    amount: Money
    captured: Money
    released: Money
    expires_at: datetime

    @property
    def left(self) -> Money:
        return Money(self.amount.amount - self.captured.amount - self.released.amount, self.amount.currency)


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold of which something is left, and the transaction that placed it."""

    state: HoldState
    kind: str
    reference: str
    group: str | None
    placed_at: datetime


async def open_holds(conn: Connection, account: Account, *, before: datetime = NEWEST, limit: int) -> list[OpenHold]:
    """Holds placed before an instant, newest first. Costs a look at every open hold of the account."""
    rows = await Q.open_holds(conn, code=account.code, currency=account.currency, before=before, limit=limit)
    return [
        OpenHold(state(account, row), row["kind"], row["reference"], row["hold_group"], row["recorded_at"])
        for row in rows
    ]


def state(account: Account, row: sql.Row) -> HoldState:
    """The hold in a row: `hold_id`, `outgoing`, `hold_amount`, `captured`, `released`, `expires_at`."""
    return HoldState(
        hold_id=ids.of("hld", row["hold_id"]),
        direction="out" if row["outgoing"] else "in",
        amount=Money(row["hold_amount"], account.currency),
        captured=Money(row["captured"], account.currency),
        released=Money(row["released"], account.currency),
        expires_at=row["expires_at"],
    )
