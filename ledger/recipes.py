"""Postings by the name of what happened: pure functions from facts to legs."""

from __future__ import annotations

from datetime import datetime

from contracts.money import Money
from ledger import accounts
from ledger.journal import Posting, credit, debit


def deposit(
    *, user_id: str, gateway: str, payment_id: str, deposit_id: str, amount: Money, happened_at: datetime
) -> Posting:
    """A captured payment becomes wallet money: the gateway owes us, we owe the user.

    The key is the gateway's payment id, so that a payment is credited once whoever tells of it first.
    """
    return Posting(
        key=f"deposit:{gateway}:{payment_id}",
        kind="deposit",
        reference=deposit_id,
        happened_at=happened_at,
        legs=(
            debit(accounts.gateway_clearing(gateway, amount.currency), amount),
            credit(accounts.wallet(user_id, amount.currency), amount),
        ),
        metadata={"gateway": gateway, "payment_id": payment_id},
    )
