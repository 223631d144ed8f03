"""The inbox: what providers tell us, stored before anything is done about it, once per event.

    received ──▶ done      its effect is committed
             ├─▶ ignored   a kind we have no use for
             ├─▶ parked    money that a person must look at
             └─▶ dead      given up after the last try

Work takes a lease and commits its effect and the new state in one transaction; a worker that dies leaves a lease
behind that runs out, and the sweep finds the row again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from contracts import ids
from storage import sql
from storage.db import Connection, Database

Q = sql.load(__package__)

LEASE = timedelta(seconds=30)  # longer than a call to a provider takes with its retries
MAX_ATTEMPTS = 12
BACKOFF_S = 2
BACKOFF_MAX_S = 900

Source = Literal["webhook", "return"]
Finished = Literal["done", "ignored", "parked", "dead"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a delivery was stored; not `fresh` when the event was known."""

    id: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """A stored delivery that this process works on."""

    id: str
    vendor: str
    source: Source
    event_key: str
    headers: dict[str, str]
    body: bytes
    attempts: int
    received_at: datetime


async def record(
    conn: Connection, *, vendor: str, source: Source, event_key: str, headers: dict[str, str], body: bytes,
    ignored: bool = False,
) -> Receipt:  # fmt: skip
    """Store a verified delivery, as work to do or as `ignored`. The same event again only raises its counter."""
    row = await Q.record_delivery(
        conn, id=ids.new("inb"), vendor=vendor, source=source, event_key=event_key, headers=headers, body=body,
        state="ignored" if ignored else "received", outcome="kind" if ignored else None,
    )  # fmt: skip
    return Receipt(row["id"], row["fresh"])


async def claim(db: Database, inbox_id: str) -> Delivery | None:
    """Take a delivery that is due; None when it is not, or another worker has it."""
    async with db.transaction() as conn:
        row = await Q.claim_delivery(conn, id=inbox_id, lease=LEASE)
    return None if row is None else Delivery(**row)


async def due(db: Database, *, limit: int) -> list[str]:
    """Ids of deliveries that wait for work, the oldest first."""
    async with db.connection() as conn:
        return [row["id"] for row in await Q.due_deliveries(conn, limit=limit)]


async def finish(conn: Connection, inbox_id: str, state: Finished, *, outcome: str) -> None:
    """Close a delivery in the transaction of its effect."""
    await Q.finish_delivery(conn, id=inbox_id, state=state, outcome=outcome)


async def retry_later(
    db: Database, delivery: Delivery, *, outcome: str, wished_s: int | None = None
) -> Finished | None:
    """Put a delivery back with a growing delay, or give it up after the last try and return `dead`.

    `wished_s` is how long the provider asked us to wait.
    """
    async with db.transaction() as conn:
        if delivery.attempts >= MAX_ATTEMPTS:
            await finish(conn, delivery.id, "dead", outcome=outcome)
            return "dead"
        delay_s = min(max(BACKOFF_S * 2 ** (delivery.attempts - 1), wished_s or 0), BACKOFF_MAX_S)
        await Q.postpone_delivery(conn, id=delivery.id, delay=timedelta(seconds=delay_s), outcome=outcome)
        return None
