"""What a transfer between users is, and must be before the ledger is asked."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.errors import Forbidden, NotFound, Refused
from contracts.money import Money


class ClosedLoop(Forbidden):
    code, title = "wallet.closed_loop", "Users of a closed wallet do not pay each other"


class TransferToSelf(Refused):
    code, title = "wallet.transfer_to_self", "Sender and receiver are the same"


class ReceiverUnknown(Refused):
    code, title = "wallet.receiver_unknown", "No such receiver"


class TransferUnknown(NotFound):
    code, title = "transfer.unknown", "No such transfer"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money from one user's wallet to another's. Its id is that of its transaction under another prefix."""

    id: str
    sender: str
    receiver: str
    amount: Money
    note: str | None


def ensure_allowed(sender: str, receiver: str, *, closed_loop: bool) -> None:
    """Raise ClosedLoop or TransferToSelf."""
    if closed_loop:
        raise ClosedLoop
    if sender == receiver:
        raise TransferToSelf
