"""Transfers of contracts/wallet.yaml: read, ask the service, render."""

from __future__ import annotations

from typing import Any

from contracts.money import Money
from contracts.runtime import Call, Reply
from handlers.wallet.service import Transfer, Transfers
from ledger import accounts
from ledger.journal import Posted


class TransferOperations:
    """One method per operationId."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    async def create_transfer(self, call: Call) -> Reply:
        user_id, wanted = call.principal.user_id, call.body["amount"]
        transfer, posted = await self._transfers.send(
            sender=user_id,
            key=call.headers["Idempotency-Key"],
            receiver=call.body["to"],
            amount=Money.parse(wanted["amount"], wanted["currency"]),
            note=call.body.get("note"),
        )
        headers = {"Location": f"/v1/wallet/transfers/{transfer.id}"}
        if posted.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Reply(201, _render(transfer, posted, user_id), headers)

    async def get_transfer(self, call: Call) -> Reply:
        user_id = call.principal.user_id
        transfer, posted = await self._transfers.read(call.path["transfer_id"], user_id=user_id)
        return Reply(200, _render(transfer, posted, user_id))


def _render(transfer: Transfer, posted: Posted, user_id: str) -> dict[str, Any]:
    own = posted.line(accounts.wallet(user_id, transfer.amount.currency))
    return {
        "transfer_id": transfer.id,
        "transaction_id": posted.transaction_id,
        "from": transfer.sender,
        "to": transfer.receiver,
        "amount": transfer.amount.json(),
        "note": transfer.note,
        "balance": {"available": own.available.json()},
        "created_at": posted.recorded_at.isoformat(),
    }
