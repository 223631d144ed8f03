"""What contracts/payments.yaml calls: read, ask the service, render."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from contracts.money import Money
from contracts.runtime import Call, Reply
from handlers.payments import pages
from handlers.payments.rules import CheckoutNotOpen, ReturnMalformed, ReturnUnsigned
from handlers.payments.service import Deposits
from integrations import inbox
from integrations.ports import PaymentGateway, ReturnOutcome, SignatureError
from storage.db import Database

MAX_FORM_FIELDS = 100


class Operations:
    """One method per operationId."""

    def __init__(
        self, db: Database, *, deposits: Deposits, gateways: Mapping[str, PaymentGateway],
        kick: Callable[..., Awaitable[None]],
    ) -> None:  # fmt: skip
        self._db = db
        self._deposits = deposits
        self._gateways = gateways
        self._kick = kick

    async def create_deposit(self, call: Call) -> Reply:
        wanted = call.body["amount"]
        body, replayed = await self._deposits.create(
            user_id=call.principal.user_id,
            key=call.headers["Idempotency-Key"],
            amount=Money.parse(wanted["amount"], wanted["currency"]),
        )
        headers = {"Location": f"/v1/payments/deposits/{body['deposit_id']}"}
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        return Reply(201, body, headers)

    async def get_deposit(self, call: Call) -> Reply:
        deposit = await self._deposits.read(call.path["deposit_id"], user_id=call.principal.user_id)
        return Reply(200, self._deposits.render(deposit))

    async def open_checkout(self, call: Call) -> web.StreamResponse:
        deposit = await self._deposits.by_checkout(call.path["checkout_id"])
        if deposit.state == "paid":
            return self._see_result(deposit.checkout_id)
        if deposit.checkout_form is None:
            raise CheckoutNotOpen
        return pages.checkout(deposit)

    async def return_from_checkout(self, call: Call) -> web.StreamResponse:
        deposit = await self._deposits.by_checkout(call.path["checkout_id"])
        if deposit.gateway_order_id is None:
            raise CheckoutNotOpen
        gateway = self._gateways[deposit.gateway]
        try:
            back = gateway.verify_return(_form(call.raw), gateway_order_id=deposit.gateway_order_id)
        except SignatureError:
            raise ReturnUnsigned from None
        if back.outcome is ReturnOutcome.PAID_CLAIMED and back.payment_id:
            await self._ask_gateway(gateway.name, back.payment_id)
        return self._see_result(deposit.checkout_id)

    async def show_checkout_result(self, call: Call) -> web.StreamResponse:
        return pages.result(await self._deposits.by_checkout(call.path["checkout_id"]))

    async def _ask_gateway(self, vendor: str, payment_id: str) -> None:
        # The browser's word goes the way of a webhook: a hint in the inbox, and the gateway is asked.
        body = json.dumps({"payment_id": payment_id}).encode()
        async with self._db.transaction() as conn:
            receipt = await inbox.record(
                conn, vendor=vendor, source="return", event_key=f"return:{payment_id}", headers={}, body=body
            )
        if receipt.fresh:
            await self._kick("payments.process_delivery", inbox_id=receipt.id)

    @staticmethod
    def _see_result(checkout_id: str) -> web.Response:
        return web.Response(status=303, headers={"Location": f"/v1/payments/checkouts/{checkout_id}/result"})


def _form(raw: bytes) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
        )
    except (UnicodeDecodeError, ValueError):
        raise ReturnMalformed from None
