"""Transfers of contracts/wallet.yaml: read, ask the service, render."""

from __future__ import annotations

from typing import Any

from contracts.money import Money
from contracts.runtime import Call, Reply
from handlers.wallet.service import Receipt, Transfers


class TransferOperations:
    """One method per operationId."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    async def create_transfer(self, call: Call) -> Reply:
        wanted = call.body["amount"]
        receipt = await self._transfers.send(
            sender=call.principal.user_id,
            key=call.headers["Idempotency-Key"],
            receiver=call.body["to"],
            amount=Money.parse(wanted["amount"], wanted["currency"]),
            note=call.body.get("note"),
        )
        headers = {"Location": f"/v1/wallet/transfers/{receipt.transfer.id}"}
        if receipt.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Reply(201, _render(receipt), headers)

    async def get_transfer(self, call: Call) -> Reply:
        return Reply(200, _render(await self._transfers.read(call.path["transfer_id"], user_id=call.principal.user_id)))


def _render(receipt: Receipt) -> dict[str, Any]:
    transfer = receipt.transfer
    return {
        "transfer_id": transfer.id,
        "transaction_id": receipt.transaction_id,
        "from": transfer.sender,
        "to": transfer.receiver,
        "amount": transfer.amount.json(),
        "note": transfer.note,
        "balance": {"available": receipt.available.json()},
        "created_at": receipt.recorded_at.isoformat(),
    }
