"""The way in: postings become transactions, each once, in the caller's database transaction.

    Posting ──▶ post, post_many ──▶ ledger.post_v1 ──▶ Posted, or a refusal
    Hold, Resolution, a transaction to reverse ──▶ a Posting, and on as above

`ledger.post_v1` (migrations/functions/ledger_post_v1.sql) is the ledger's only writer. Locks: the balance rows of all
postings of a call, in account order, until the caller's transaction ends. `ledger.poster` is the other way in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

import orjson

from contracts import ids
from contracts.errors import AppError, NotFound
from contracts.money import Money
from ledger import refusals
from ledger.accounts import Account
from storage import faults, sql
from storage.db import Connection

Q = sql.load(__package__)
ZERO = Decimal(0)
# Ids that a process remembers, of each database.
KNOWN_ACCOUNTS = 100_000
T = TypeVar("T")

# Another call wrote the same key at the same time, for other accounts: run again, the key is found.
faults.on_constraint("transactions_pkey", lambda _: faults.Retryable())


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a posting: an account and signed amounts, credit positive, debit negative.

    `pending_debit` and `pending_credit` change the account's pending sides; only holds have them. Conditions, on the
    account's normal side: the available balance after the leg is `at_least` and `at_most` this, and before it the
    account had `version` entries.
    """

    account: Account
    amount: Decimal
    pending_debit: Decimal = ZERO
    pending_credit: Decimal = ZERO
    at_least: Decimal | None = None
    at_most: Decimal | None = None
    version: int | None = None


@dataclass(frozen=True)
class Posting:
    """What is to be written. `key` makes it happen once, for ever; `reference` is opaque to the ledger.

    `happened_at` None means: when it is recorded. `up_to` takes the amounts of a posting of two legs as a wish and
    moves as much of it as floors and ceilings allow. `reverses` names the transaction that this one turns round.
    Raises ValueError for legs that are no posting.
    """

    key: str
    kind: str
    reference: str
    happened_at: datetime | None
    legs: tuple[Leg, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    reverses: str | None = None
    up_to: bool = False
    hold_id: str | None = None
    expires_at: datetime | None = None
    hold_group: str | None = None

    def __post_init__(self) -> None:
        sums: dict[str, Decimal] = {}
        for leg in self.legs:
            if not (leg.amount.is_finite() and leg.pending_debit.is_finite() and leg.pending_credit.is_finite()):
                raise ValueError("an amount is finite")
            if not (leg.amount or leg.pending_debit or leg.pending_credit):
                raise ValueError("a leg moves something")
            currency = leg.account.currency
            sums[currency] = sums.get(currency, ZERO) + leg.amount
        if len(self.legs) < 2 or any(sums.values()):
            raise ValueError("a posting has two legs at least, which sum to zero in each currency")
        if len({(leg.account.code, leg.account.currency) for leg in self.legs}) < len(self.legs):
            raise ValueError("a posting names an account once")
        if self.up_to and len(self.legs) != 2:
            raise ValueError("only a posting of two legs moves as much as is allowed")

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 over what the posting means: the same key must always come with the same fingerprint."""
        legs = sorted(
            [leg.account.code, leg.account.currency, *map(_plain, (leg.amount, leg.pending_debit, leg.pending_credit)),
             _plain(leg.at_least), _plain(leg.at_most), leg.version]
            for leg in self.legs
        )  # fmt: skip
        parts = [
            self.kind, self.reference, _instant(self.happened_at), legs, self.metadata, self.reverses, self.up_to,
            self.hold_id, _instant(self.expires_at), self.hold_group,
        ]  # fmt: skip
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside: `amount` of `source` is no longer available and is pending on `target`; nothing moves yet.

    Holds of one `group` are resolved together. `expires_at` is when the sweep gives back what is left.
    """

    key: str
    kind: str
    reference: str
    happened_at: datetime | None
    source: Account
    target: Account
    amount: Money
    expires_at: datetime
    group: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def posting(self) -> Posting:
        """The posting that places the hold."""
        amount = checked(self.source, self.amount)
        legs = (Leg(self.source, ZERO, pending_debit=amount), Leg(self.target, ZERO, pending_credit=amount))
        return Posting(
            self.key, self.kind, self.reference, self.happened_at, legs, self.metadata,
            hold_id=ids.derived("hld", self.key), expires_at=self.expires_at, hold_group=self.group,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolution:
    """What becomes of a part of a hold: `captured` moves from its source to its target, `released` is given back."""

    key: str
    kind: str
    reference: str
    happened_at: datetime | None
    hold_id: str
    captured: Money | None = None
    released: Money | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """What a leg did: the amount that was posted, signed, and the balance that it left behind."""

    account: Account
    amount: Decimal
    sequence: int
    credits: Decimal
    debits: Decimal
    pending_credits: Decimal
    pending_debits: Decimal

    @property
    def available(self) -> Money:
        """What may leave the account, on its normal side: held money is not in it."""
        if self.account.credit_normal:
            return Money(self.credits - self.debits - self.pending_debits, self.account.currency)
        return Money(self.debits - self.credits - self.pending_credits, self.account.currency)


@dataclass(frozen=True, slots=True)
class Posted:
    """A written transaction; `replayed` when the key had been posted before and nothing was written now."""

    transaction_id: str
    recorded_at: datetime
    replayed: bool
    lines: tuple[Line, ...]

    def line(self, account: Account) -> Line:
        """The line of one account. Raises StopIteration when the transaction has none."""
        return next(line for line in self.lines if line.account == account)


def credit(account: Account, amount: Money) -> Leg:
    """A leg that credits `amount`, which must be above zero and in the account's currency."""
    return Leg(account, checked(account, amount))


def debit(account: Account, amount: Money) -> Leg:
    """A leg that debits `amount`, which must be above zero and in the account's currency."""
    return Leg(account, -checked(account, amount))


async def post(conn: Connection, posting: Posting) -> Posted:
    """Write one posting, or return the transaction that its key wrote before. Raises `refusals`."""
    (result,) = await post_many(conn, [(posting,)])
    if isinstance(result, AppError):
        raise result
    return result[0]


async def post_linked(conn: Connection, postings: Sequence[Posting]) -> tuple[Posted, ...]:
    """Write several postings, all or nothing. Raises the refusal of the first that was refused."""
    (result,) = await post_many(conn, [postings])
    if isinstance(result, AppError):
        raise result
    return result


async def post_many(
    conn: Connection, sets: Sequence[Sequence[Posting]], *, by: sql.Query = Q.post, **more: Any
) -> list[tuple[Posted, ...] | AppError]:
    """Write linked sets of postings in one call; each set succeeds or is refused by itself, in the order given.

    `by` is a statement that calls `ledger.post_v1` as the query `post` does, and does more with what that returns, for
    which it may have parameters of its own (`more`).

    No key may be in it twice, and a hold that it places is resolved by another call. A posting that no caller may ever
    make raises the database's error and undoes all.
    """
    postings = list(chain.from_iterable(sets))
    if len({posting.key for posting in postings}) < len(postings):
        raise ValueError("a key stands for one posting")
    legs = [leg for posting in postings for leg in posting.legs]
    account_ids = await _account_ids(conn, {leg.account for leg in legs})
    ordered = sorted(account_ids.values())
    slots = {account_id: slot for slot, account_id in enumerate(ordered, 1)}
    row = await by(
        conn,
        **more,
        accounts=ordered,
        keys=[posting.key for posting in postings],
        hashes=[posting.fingerprint for posting in postings],
        kinds=[posting.kind for posting in postings],
        references=[posting.reference for posting in postings],
        metadata=[posting.metadata for posting in postings],
        happened_at=[posting.happened_at for posting in postings],
        sizes=[len(posting.legs) for posting in postings],
        leg_postings=[n for n, posting in enumerate(postings, 1) for _ in posting.legs],
        leg_accounts=[slots[account_ids[leg.account]] for leg in legs],
        amounts=[leg.amount for leg in legs],
        links=[n for n, members in enumerate(sets) for _ in members] if len(sets) < len(postings) else None,
        reverses=_any([posting.reverses and _uuid(posting.reverses) for posting in postings]),
        up_to=_any([posting.up_to or None for posting in postings]),
        holds=_any([posting.hold_id and _uuid(posting.hold_id) for posting in postings]),
        expires_at=_any([posting.expires_at for posting in postings]),
        groups=_any([posting.hold_group for posting in postings]),
        pending_debits=_any([leg.pending_debit for leg in legs]),
        pending_credits=_any([leg.pending_credit for leg in legs]),
        at_least=_given([leg.at_least for leg in legs]),
        at_most=_given([leg.at_most for leg in legs]),
        versions=_given([leg.version for leg in legs]),
    )
    lines = zip(
        legs, row["amounts"], row["sequences"], row["credits"], row["debits"], row["pending_credits"],
        row["pending_debits"], strict=True,
    )  # fmt: skip
    outcomes = zip(row["outcomes"], row["ids"], row["recorded"], strict=True)
    results: list[tuple[Posted, ...] | AppError] = []
    for members in sets:
        written, refused = [], []
        for posting in members:
            outcome, transaction_id, recorded_at = next(outcomes)
            found = tuple(Line(leg.account, *numbers) for _, (leg, *numbers) in zip(posting.legs, lines, strict=False))
            if transaction_id is None:
                refused.append(outcome)
            else:
                written.append(Posted(ids.of("txn", transaction_id), recorded_at, outcome == "replayed", found))
        results.append(refusals.meaning(refused) if refused else tuple(written))
    return results


async def place(conn: Connection, hold: Hold) -> Posted:
    """Place a hold; the transaction's id with the prefix `hld` is the hold's. Raises `refusals`."""
    return await post(conn, hold.posting())


async def resolve(conn: Connection, resolution: Resolution) -> Posted:
    """Capture or release a part of a hold. Raises HoldResolved when less than that is left, NotFound, `refusals`."""
    return await post(conn, await resolving(conn, resolution))


async def resolve_group(
    conn: Connection, group: str, *, key: str, kind: str, reference: str, happened_at: datetime | None, capture: bool
) -> tuple[Posted, ...]:
    """Capture, or release, all that is left of every hold of a group: all or nothing. Empty when nothing is left."""
    postings = []
    for row in await Q.open_holds_of_group(conn, group=group):
        left = Money(row["left"], row["currency"])
        postings.append(
            _resolving(
                row,
                Resolution(
                    f"{key}:{ids.encode(row['id'])}", kind, reference, happened_at, ids.of("hld", row["id"]),
                    captured=left if capture else None, released=None if capture else left,
                ),
            )
        )  # fmt: skip
    return await post_linked(conn, postings) if postings else ()


async def resolving(conn: Connection, resolution: Resolution) -> Posting:
    """The posting of a resolution. Raises NotFound for a hold that does not exist."""
    row = await Q.hold(conn, id=_uuid(resolution.hold_id))
    if row is None:
        raise NotFound("there is no such hold")
    return _resolving(row, resolution)


async def reverse(
    conn: Connection, transaction_id: str, *, key: str, reference: str, happened_at: datetime | None = None
) -> Posted:
    """Write a transaction's legs with the signs turned, once. Raises AlreadyReversed, NotFound, `refusals`.

    A reversal and what belongs to a hold cannot be reversed (409): post what is right, or resolve the hold.
    """
    rows = await Q.transaction_legs(conn, id=_uuid(transaction_id))
    if not rows:
        raise NotFound("there is no such transaction")
    if rows[0]["reverses"] is not None or rows[0]["hold_id"] is not None:
        raise refusals.NotReversible
    legs = tuple(Leg(_account(row), -row["amount"]) for row in rows)
    return await post(
        conn,
        Posting(key, "reversal", reference, happened_at, legs, {"reverses": transaction_id}, reverses=transaction_id),
    )


def checked(account: Account, amount: Money) -> Decimal:
    """The amount of a leg. Raises ValueError when it is not above zero or in another currency than the account."""
    if amount.currency != account.currency:
        raise ValueError("leg and account differ in currency")
    if amount.amount <= 0:
        raise ValueError("a leg's amount is above zero; its side says the direction")
    return amount.amount


async def _account_ids(conn: Connection, accounts: set[Account]) -> dict[Account, int]:
    known: dict[Account, int] = conn.known.setdefault(Account, {})
    found = {account: known[account] for account in accounts if account in known}
    missing = list(accounts - found.keys())
    if missing:
        row = await Q.open_accounts(
            conn,
            codes=[account.code for account in missing],
            currencies=[account.currency for account in missing],
            kinds=[account.kind for account in missing],
            floors=[account.floor for account in missing],
            ceilings=[account.ceiling for account in missing],
        )
        found.update(zip(missing, row["ids"], strict=True))
        if len(known) > KNOWN_ACCOUNTS:
            known.clear()
        lasting = zip(missing, row["lasting"], strict=True)
        known.update((account, found[account]) for account, is_lasting in lasting if is_lasting)
    return found


def _resolving(row: sql.Row, resolution: Resolution) -> Posting:
    source, target = _account(row, "source_"), _account(row, "target_")
    captured = checked(source, resolution.captured) if resolution.captured else ZERO
    gone = captured + (checked(source, resolution.released) if resolution.released else ZERO)
    legs = (Leg(source, -captured, pending_debit=-gone), Leg(target, captured, pending_credit=-gone))
    return Posting(
        resolution.key, resolution.kind, resolution.reference, resolution.happened_at, legs, resolution.metadata,
        hold_id=resolution.hold_id,
    )  # fmt: skip


def _account(row: sql.Row, prefix: str = "") -> Account:
    return Account(
        row[f"{prefix}code"], row["currency"], row[f"{prefix}kind"], row[f"{prefix}floor"], row[f"{prefix}ceiling"]
    )


def _any(values: list[T]) -> list[T] | None:
    """An optional array, left out as a whole when nothing is in it."""
    return values if any(values) else None


def _given(values: list[T]) -> list[T] | None:
    """An optional array in which zero is a value, left out as a whole when none is given."""
    return values if any(value is not None for value in values) else None


def _uuid(typeid: str) -> UUID:
    return ids.decode(typeid[4:])


def _plain(amount: Decimal | None) -> str | None:
    if amount is None:
        return None
    return format(amount.normalize(), "f") if amount else "0"


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
