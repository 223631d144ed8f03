"""The use cases of the wallet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from contracts.errors import IdempotencyMismatch
from contracts.money import Money
from handlers.wallet import rules
from handlers.wallet.rules import ReceiverUnknown, Transfer, TransferUnknown
from ledger import accounts, balances, lookup, recipes
from ledger.poster import Poster
from ledger.reading import ArchivedEntries
from ledger.refusals import KeyReused
from storage.db import Database


class UserExists(Protocol):
    """The question that the wallet asks about a receiver. Raises StorageBusy."""

    async def __call__(self, user_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transfer that was made, for one of its parties: `available` is what that wallet had to spend after it."""

    transfer: Transfer
    transaction_id: str
    recorded_at: datetime
    available: Money
    replayed: bool


class KnownUsers:
    """Asks whether a user exists, once: users are not deleted, and a wallet that must not receive is closed."""

    def __init__(self, ask: UserExists, *, size: int = 100_000) -> None:
        self._ask = ask
        self._size = size
        self._known: dict[str, None] = {}

    async def __call__(self, user_id: str) -> bool:
        if user_id in self._known:
            return True
        if not await self._ask(user_id):
            return False
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[user_id] = None
        return True


class Transfers:
    """Sending and reading transfers. The ledger is the only place that keeps them."""

    def __init__(self, db: Database, *, poster: Poster, user_exists: UserExists, closed_loop: bool) -> None:
        self._db = db
        self._poster = poster
        self._user_exists = KnownUsers(user_exists)
        self._closed_loop = closed_loop

    async def send(self, *, sender: str, key: str, receiver: str, amount: Money, note: str | None) -> Receipt:
        """Move the amount once for each key of the sender; return when it is committed.

        Raises ClosedLoop, TransferToSelf, ReceiverUnknown, IdempotencyMismatch, ArchivedEntries, StorageBusy, and
        `ledger.refusals`. Effects: a posting; events `wallet.debited` and `wallet.credited` in its transaction.
        """
        rules.ensure_allowed(sender, receiver, closed_loop=self._closed_loop)
        if not await self._user_exists(receiver):
            raise ReceiverUnknown
        posting = recipes.transfer(sender=sender, receiver=receiver, request_key=key, amount=amount, note=note)
        transfer = Transfer(posting.reference, sender, receiver, amount, note)
        try:
            (posted,) = await self._poster.post(posting, effect=transfer)
        except KeyReused:
            raise IdempotencyMismatch from None
        out, _ = posted.lines
        if out.sequence is None:  # a repeat, and the month of the first one was archived
            raise ArchivedEntries
        return Receipt(transfer, posted.transaction_id, posted.recorded_at, out.available, posted.replayed)

    async def read(self, transfer_id: str, *, user_id: str) -> Receipt:
        """A transfer for one of its two parties. Raises TransferUnknown, ArchivedEntries."""
        async with self._db.connection() as conn:
            found = await lookup.by_id(conn, transfer_id.replace("trf_", "txn_"))
            if found is None or found.kind != "transfer":
                raise TransferUnknown
            if found.archived:
                raise ArchivedEntries
            out, into = sorted(found.lines, key=lambda line: line.amount)
            own = accounts.wallet(user_id, into.currency)
            if own.code not in (out.account, into.account):
                raise TransferUnknown
            balance = await balances.balance_at(conn, own, recorded=found.recorded_at)
        sender, receiver = (line.account.removeprefix("wallet:") for line in (out, into))
        amount = Money(into.amount, into.currency)
        transfer = Transfer(transfer_id, sender, receiver, amount, found.metadata.get("note"))
        return Receipt(transfer, found.transaction_id, found.recorded_at, balance.available, True)
