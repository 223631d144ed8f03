"""Deliver events to the merchant: at least once, in any order, again until it answers 2xx in time.

Source: razorpay.com/docs webhooks/best-practices (read 2026-04). The real back-off steps are not
published and its window is 24 h; here the first retry comes after about a second and the window is
compressed. A webhook that never answers is not switched off, as the real one would be.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from integrations.razorpay.sandbox.knobs import Knobs
from integrations.razorpay.sandbox.signing import sign_webhook
from integrations.razorpay.sandbox.store import Store

logger = logging.getLogger(__name__)

MAX_BACKOFF_S: Final = 60.0
CONCURRENCY: Final = 8
IDLE_S: Final = 5.0


class Sender:
    """One background worker over the events table; whatever is pending there at a restart goes out again."""

    def __init__(
        self,
        store: Store,
        knobs: Knobs,
        *,
        url: str,
        secret: str,
        timeout_s: float,
        retry_base_s: float,
    ) -> None:
        self._store = store
        self._knobs = knobs
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s
        self._retry_base_s = retry_base_s
        self._wake = asyncio.Event()
        self._in_flight: set[str] = set()
        self._slots = asyncio.Semaphore(CONCURRENCY)

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = ClientTimeout(total=self._timeout_s)
        async with ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as deliveries:
            while True:
                self._wake.clear()
                wait_s = self._start_due(session, deliveries)
                try:
                    await asyncio.wait_for(self._wake.wait(), wait_s)
                except TimeoutError:
                    continue

    def _start_due(self, session: ClientSession, deliveries: asyncio.TaskGroup) -> float:
        """Start what is due, in no particular order, and return the seconds until the next is."""
        now = time.time()
        waiting = [event for event in self._store.pending_events() if event["id"] not in self._in_flight]
        due = [event for event in waiting if event["next_attempt_at"] <= now]
        later = [event["next_attempt_at"] - now for event in waiting if event["next_attempt_at"] > now]
        random.shuffle(due)
        for event in due:
            self._in_flight.add(event["id"])
            deliveries.create_task(self._deliver(session, event))
        return min(later, default=IDLE_S)

    async def _deliver(self, session: ClientSession, event: sqlite3.Row) -> None:
        try:
            async with self._slots:
                if self._knobs.take("drop"):
                    self._keep(event, None, "dropped", state="dropped", started=time.time())
                else:
                    await self._attempt(session, event)
        finally:
            self._in_flight.discard(event["id"])
            self._wake.set()

    async def _attempt(self, session: ClientSession, event: sqlite3.Row) -> None:
        started = time.time()
        secret = self._secret + "-wrong" if self._knobs.take("bad_signature") else self._secret
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Razorpay-Webhook/v1",
            "X-Razorpay-Signature": sign_webhook(secret, event["body"]),
            "x-razorpay-event-id": event["id"],
        }
        status: int | None = None
        try:
            async with session.post(self._url, data=event["body"], headers=headers, allow_redirects=False) as answer:
                await answer.read()
                status = answer.status
            outcome = "accepted" if 200 <= status < 300 else "rejected"
        except TimeoutError:
            outcome = "timed out"
        except ClientError:
            outcome = "not connected"
        state = "delivered" if outcome == "accepted" else "pending"
        self._keep(event, status, outcome, state=state, started=started)

    def _keep(self, event: sqlite3.Row, status: int | None, outcome: str, *, state: str, started: float) -> None:
        """Store the attempt and what becomes of the event: done, another copy, a retry, or given up."""
        now = time.time()
        copies, next_attempt_at = event["copies"], now
        if state == "delivered" and copies > 1:
            state, copies = "pending", copies - 1
        elif state == "pending":
            next_attempt_at = now + min(MAX_BACKOFF_S, self._retry_base_s * 2.0 ** min(event["attempts"], 16))
            state = "pending" if next_attempt_at <= event["retry_until"] else "expired"
        with self._store.transaction():
            self._store.add_delivery(
                {
                    "event_id": event["id"],
                    "attempted_at": started,
                    "status": status,
                    "outcome": outcome,
                    "duration_ms": round((now - started) * 1000),
                }
            )
            self._store.settle_event(event["id"], state=state, copies=copies, next_attempt_at=next_attempt_at)
        logger.info(
            "sandbox.razorpay.delivery",
            extra={"event_id": event["id"], "event": event["name"], "status": status, "outcome": outcome},
        )
