"""Tasks of payments: thin, and running one twice changes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from handlers.payments.service import Deposits
from integrations import inbox
from integrations.inbox import Delivery
from integrations.ports import PaymentGateway, ProviderError, ProviderUnavailable
from storage import idempotency
from storage.db import Database

logger = logging.getLogger(__name__)

SWEEP_LIMIT = 100


class Jobs:
    """`process_delivery` is kicked after a delivery is stored; the others run by the clock."""

    def __init__(self, db: Database, *, deposits: Deposits, gateways: Mapping[str, PaymentGateway]) -> None:
        self._db = db
        self._deposits = deposits
        self._gateways = gateways

    async def process_delivery(self, inbox_id: str) -> str | None:
        """Ask the gateway about the payment that a delivery names and act on the answer.

        Returns the outcome, or None when the delivery is not due or in other hands.
        """
        delivery = await inbox.claim(self._db, inbox_id)
        if delivery is None:
            return None
        try:
            gateway = self._gateways[delivery.vendor]
            payment = await gateway.fetch_payment(_payment_id(gateway, delivery))
            return await self._deposits.settle(delivery.id, gateway=delivery.vendor, payment=payment)
        except ProviderError as fault:
            logger.warning("payments.fetch_failed", extra={"inbox_id": delivery.id, "reason": fault.reason})
            return await self._retry(delivery, fault)
        except Exception as fault:  # a bug must not be tried for ever, nor be lost
            logger.exception("payments.delivery_failed", extra={"inbox_id": delivery.id})
            return await self._retry(delivery, fault)

    async def _retry(self, delivery: Delivery, fault: Exception) -> str:
        outcome = type(fault).__name__
        wished_s = fault.retry_after_s if isinstance(fault, ProviderUnavailable) else None
        if await inbox.retry_later(self._db, delivery, outcome=outcome, wished_s=wished_s) == "dead":
            logger.error("payments.delivery_dead", extra={"inbox_id": delivery.id, "gateway": delivery.vendor})
        return outcome

    async def process_due_deliveries(self) -> int:
        """Work off what a lost kick, a dead worker or a silent gateway left behind; return how many were tried."""
        due = await inbox.due(self._db, limit=SWEEP_LIMIT)
        for inbox_id in due:
            await self.process_delivery(inbox_id)
        return len(due)

    async def purge_idempotency_keys(self) -> int:
        """Forget keys whose time is over."""
        return await idempotency.purge(self._db)


def _payment_id(gateway: PaymentGateway, delivery: Delivery) -> str:
    if delivery.source == "return":
        return str(json.loads(delivery.body)["payment_id"])
    event = gateway.parse_webhook(delivery.headers, delivery.body)
    assert event.payment_id is not None, "an event without a payment is stored as ignored"
    return event.payment_id
