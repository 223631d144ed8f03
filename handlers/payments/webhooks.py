"""Inbound calls of gateways: verify, store, answer. The worker does the rest."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from contracts.runtime import Call, Reply
from handlers.payments.rules import WebhookMalformed, WebhookUnsigned
from integrations import inbox
from integrations.ports import MalformedWebhook, PaymentGateway, SignatureError, WebhookKind
from storage.db import Database

logger = logging.getLogger(__name__)

# What a parser may need of a stored delivery again; nothing else of a stranger's headers is kept.
KEPT_HEADERS = ("content-type", "x-razorpay-event-id")


class Webhooks:
    """One method per operationId of contracts/webhooks.yaml."""

    def __init__(self, db: Database, *, razorpay: PaymentGateway, kick: Callable[..., Awaitable[None]]) -> None:
        self._db = db
        self._razorpay = razorpay
        self._kick = kick

    async def receive_razorpay_webhook(self, call: Call) -> Reply:
        return await self._receive(self._razorpay, call)

    async def _receive(self, gateway: PaymentGateway, call: Call) -> Reply:
        headers = {name.lower(): value for name, value in call.request.headers.items()}
        try:
            gateway.verify_webhook(headers, call.raw)
            event = gateway.parse_webhook(headers, call.raw)
        except SignatureError:
            logger.warning("payments.webhook_unsigned", extra={"gateway": gateway.name, "remote": call.request.remote})
            raise WebhookUnsigned(gateway.name) from None
        except MalformedWebhook as fault:
            raise WebhookMalformed(str(fault)) from None
        ignored = event.kind is WebhookKind.IGNORED
        async with self._db.transaction() as conn:
            receipt = await inbox.record(
                conn, vendor=gateway.name, source="webhook", event_key=event.event_key, body=call.raw, ignored=ignored,
                headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
            )  # fmt: skip
        if receipt.fresh and not ignored:
            await self._kick("payments.process_delivery", inbox_id=receipt.id)
        return Reply(200, {"receipt": "ignored" if ignored else "accepted" if receipt.fresh else "duplicate"})
