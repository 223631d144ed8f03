"""A small ledger that says what the database must answer: one request at a time, on dictionaries.

It shares the requests' dataclasses with `ledger` and nothing else: it thinks in what an account shows its owner
(available, held, coming), where the database thinks in counters and signs. `history` asks it for every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from contracts import ids
from ledger.accounts import Account
from ledger.journal import Leg, Line, Posting, Resolution

ZERO = Decimal(0)
PLACES = {"INR": 2, "JPY": 0}


@dataclass(frozen=True)
class Post:
    """Linked sets of postings. `way` is how they travel, see `clients`; what comes by `aborted` is rolled back."""

    sets: tuple[tuple[Posting, ...], ...]
    way: str


@dataclass(frozen=True)
class Resolve:
    """A part of a hold is captured or released."""

    resolution: Resolution


@dataclass(frozen=True)
class ResolveGroup:
    """All that is left of the holds of a group is captured or released."""

    group: str
    key: str
    capture: bool


@dataclass(frozen=True)
class Reverse:
    """A transaction is turned round."""

    transaction_id: str
    key: str


@dataclass(frozen=True)
class Change:
    """An account gets this status and these limits."""

    account: Account
    status: str
    floor: Decimal | None
    ceiling: Decimal | None


@dataclass(frozen=True)
class Look:
    """All accounts are read at one instant."""


Request = Post | Resolve | ResolveGroup | Reverse | Change | Look


@dataclass(frozen=True, slots=True)
class Written:
    """A transaction; `lines` in no order, since a repetition may name its legs in another one."""

    transaction_id: str
    replayed: bool
    lines: frozenset[Line]


@dataclass(frozen=True, slots=True)
class Refused:
    """The class of the refusal, or the SQLSTATE of what no caller may ask for."""

    reason: str


class Standing(NamedTuple):
    """What an account's balance row says. `changes` counts those of status and limits."""

    status: str = "open"
    floor: Decimal | None = None
    ceiling: Decimal | None = None
    changes: int = 0
    sequence: int = 0
    credits: Decimal = ZERO
    debits: Decimal = ZERO
    pending_credits: Decimal = ZERO
    pending_debits: Decimal = ZERO


# What accounts stand at, by code and currency.
Standings = dict[tuple[str, str], Standing]
Seen = frozenset[tuple[tuple[str, str], Standing]]
# Of a set of postings, of a change, of a look.
Answer = tuple[Written, ...] | Refused | Standing | Seen
# What is left of each hold of a group, in the order of their ids.
Left = tuple[tuple[str, Decimal], ...]


class Shown(NamedTuple):
    """An account on its normal side."""

    posted: Decimal
    held: Decimal
    coming: Decimal

    @property
    def available(self) -> Decimal:
        return self.posted - self.held

    @property
    def at_most(self) -> Decimal:
        return self.posted + self.coming

    def within(self, floor: Decimal | None, ceiling: Decimal | None) -> bool:
        return (floor is None or self.available >= floor) and (ceiling is None or self.at_most <= ceiling)


def shown(account: Account, standing: Standing) -> Shown:
    """An account's balance as its owner reads it."""
    if account.credit_normal:
        return Shown(standing.credits - standing.debits, standing.pending_debits, standing.pending_credits)
    return Shown(standing.debits - standing.credits, standing.pending_credits, standing.pending_debits)


class Transaction(NamedTuple):
    """What a key stands for, for ever."""

    posting: Posting
    lines: tuple[Line, ...]


class Held(NamedTuple):
    """A hold and what became of it."""

    source: Account
    target: Account
    group: str | None
    amount: Decimal
    captured: Decimal = ZERO
    released: Decimal = ZERO

    @property
    def left(self) -> Decimal:
        return self.amount - self.captured - self.released


class Refusal(Exception):
    """A posting, and the set it is in, is not written."""


class Model:
    """The ledger's state, and its answers. `opened` are its accounts in the order of their numbers; an account that is
    not among them has no limits."""

    def __init__(self, opened: Sequence[Account]) -> None:
        self.accounts = {(account.code, account.currency): account for account in opened}
        self.standings: Standings = {
            name: Standing(floor=account.floor, ceiling=account.ceiling) for name, account in self.accounts.items()
        }
        self.transactions: dict[str, Transaction] = {}
        self.reversed: frozenset[str] = frozenset()
        self.holds: dict[str, Held] = {}
        self.fault: str | None = None  # why the call at hand is one that no caller may make

    def fork(self) -> Model:
        """A copy that goes its own way."""
        copy = Model(())
        copy.accounts = self.accounts
        copy.standings = self.standings.copy()
        copy.transactions = self.transactions.copy()
        copy.reversed, copy.fault = self.reversed, self.fault
        copy.holds = self.holds.copy()
        return copy

    def answer(self, request: Request, left: Left = ()) -> tuple[Answer, ...]:
        """What the database must reply, one answer for each set. `left` is what a group's resolver has seen of it."""
        match request:
            case Post(sets=sets):
                return self._post(sets)
            case Resolve(resolution=resolution):
                return self._resolve(resolution)
            case ResolveGroup():
                return self._resolve_group(request, left) if left else ((),)
            case Reverse():
                return self._reverse(request)
            case Change():
                return (self._change(request),)
            case Look():
                return (frozenset(self.used().items()),)

    def used(self) -> Standings:
        """The accounts that something happened to."""
        return {name: at for name, at in self.standings.items() if at.sequence or at.changes}

    def left(self, group: str) -> Left:
        """What is left of each open hold of a group."""
        return tuple(
            sorted((name, hold.left) for name, hold in self.holds.items() if hold.group == group and hold.left)
        )

    def _post(self, sets: Sequence[Sequence[Posting]]) -> tuple[Answer, ...]:
        for leg in (leg for postings in sets for posting in postings for leg in posting.legs):
            if self.accounts.get((leg.account.code, leg.account.currency), leg.account) != leg.account:
                return (Refused("LG009"),)
        trial = self.fork()
        answers = tuple(map(trial._post_set, sets))
        if trial.fault is not None:
            return (Refused(trial.fault),)
        self._become(trial)
        return answers

    def _post_set(self, postings: Sequence[Posting]) -> Answer:
        trial = self.fork()
        written: list[Written] = []
        try:
            for posting in postings:
                known = self.transactions.get(ids.derived("txn", posting.key))
                # A set is written as a whole or was written as a whole.
                if written and written[0].replayed != (known is not None):
                    raise Refusal("KeyReused")
                written.append(trial._repeat(posting, known) if known else trial._write(posting))
        except Refusal as refusal:
            return Refused(str(refusal))
        self._become(trial)
        return tuple(written)

    def _repeat(self, posting: Posting, known: Transaction) -> Written:
        if _contents(posting) != _contents(known.posting):
            raise Refusal("KeyReused")
        return Written(ids.derived("txn", posting.key), True, frozenset(known.lines))

    def _write(self, posting: Posting) -> Written:
        if posting.reverses in self.reversed:
            raise Refusal("AlreadyReversed")
        if posting.hold_id is not None and posting.expires_at is None:
            self._resolve_part(posting, posting.hold_id)
        legs = self._as_much_as_is_allowed(posting) if posting.up_to else posting.legs
        lines = tuple(map(self._move, legs))
        self.fault = self.fault or self._fault(posting)
        if posting.expires_at is not None:
            self._place(posting)
        if posting.reverses is not None:
            self.reversed |= {posting.reverses}
        transaction_id = ids.derived("txn", posting.key)
        self.transactions[transaction_id] = Transaction(posting, lines)
        return Written(transaction_id, False, frozenset(lines))

    def _move(self, leg: Leg) -> Line:
        name = (leg.account.code, leg.account.currency)
        before = self.standings.get(name, Standing())
        after = before._replace(
            sequence=before.sequence + 1,
            credits=before.credits + max(leg.amount, ZERO),
            debits=before.debits + max(-leg.amount, ZERO),
            pending_credits=before.pending_credits + leg.pending_credit,
            pending_debits=before.pending_debits + leg.pending_debit,
        )
        was, now = shown(leg.account, before), shown(leg.account, after)
        if not now.within(before.floor, None):
            raise Refusal("InsufficientFunds")
        if not now.within(None, before.ceiling):
            raise Refusal("LimitExceeded")
        if before.status == "closed":
            raise Refusal("AccountClosed")
        if before.status == "frozen" and now.available < was.available:
            raise Refusal("AccountFrozen")
        if leg.at_least is not None and now.available < leg.at_least:
            raise Refusal("ConditionFailed")
        if leg.at_most is not None and now.available > leg.at_most:
            raise Refusal("ConditionFailed")
        if leg.version is not None and leg.version != before.sequence:
            raise Refusal("ConditionFailed")
        self.standings[name] = after
        numbers = (after.sequence, after.credits, after.debits, after.pending_credits, after.pending_debits)
        return Line(leg.account, leg.amount, *numbers)

    def _as_much_as_is_allowed(self, posting: Posting) -> tuple[Leg, ...]:
        amounts = [abs(posting.legs[0].amount)]
        for leg in posting.legs:
            standing = self.standings.get((leg.account.code, leg.account.currency), Standing())
            now = shown(leg.account, standing)
            if (leg.amount > 0) == leg.account.credit_normal:  # it grows
                amounts += [standing.ceiling - now.at_most] if standing.ceiling is not None else []
            else:
                amounts += [now.available - standing.floor] if standing.floor is not None else []
        if min(amounts) <= 0:
            raise Refusal("NothingAvailable")
        return tuple(replace(leg, amount=min(amounts).copy_sign(leg.amount)) for leg in posting.legs)

    def _place(self, posting: Posting) -> None:
        source, target = sorted(posting.legs, key=lambda leg: leg.pending_credit)
        hold = Held(source.account, target.account, posting.hold_group, source.pending_debit)
        self.holds[ids.derived("hld", posting.key)] = hold

    def _resolve_part(self, posting: Posting, hold_id: str) -> None:
        hold = self.holds.get(hold_id)
        gone = -sum((leg.pending_debit for leg in posting.legs), ZERO)
        if hold is None or gone > hold.left:
            raise Refusal("HoldResolved")
        captured = max(leg.amount for leg in posting.legs)
        self.holds[hold_id] = hold._replace(captured=hold.captured + captured, released=hold.released + gone - captured)

    def _resolve(self, resolution: Resolution) -> tuple[Answer, ...]:
        hold = self.holds.get(resolution.hold_id)
        if hold is None:
            return (Refused("NotFound"),)
        captured = resolution.captured.amount if resolution.captured else ZERO
        released = resolution.released.amount if resolution.released else ZERO
        legs = part(hold.source, hold.target, captured, released)
        return self._post([[
            Posting(resolution.key, resolution.kind, resolution.reference, resolution.happened_at, legs,
                    resolution.metadata, hold_id=resolution.hold_id)
        ]])  # fmt: skip

    def _resolve_group(self, request: ResolveGroup, left: Left) -> tuple[Answer, ...]:
        postings = []
        for hold_id, amount in left:
            hold = self.holds[hold_id]
            captured, released = (amount, ZERO) if request.capture else (ZERO, amount)
            legs = part(hold.source, hold.target, captured, released)
            postings.append(Posting(f"{request.key}:{hold_id[4:]}", "group", "", None, legs, hold_id=hold_id))
        return self._post([postings])

    def _reverse(self, request: Reverse) -> tuple[Answer, ...]:
        original = self.transactions.get(request.transaction_id)
        if original is None:
            return (Refused("NotFound"),)
        if original.posting.reverses is not None or original.posting.hold_id is not None:
            return (Refused("NotReversible"),)
        opened = list(self.accounts.values())
        lines = [line for line in original.lines if line.account in opened]
        lines.sort(key=lambda line: opened.index(line.account))
        lines += [line for line in original.lines if line.account not in opened]
        legs = tuple(Leg(line.account, -line.amount) for line in lines)
        return self._post([[
            Posting(request.key, "reversal", "", None, legs, {"reverses": request.transaction_id},
                    reverses=request.transaction_id)
        ]])  # fmt: skip

    def _change(self, change: Change) -> Answer:
        name = (change.account.code, change.account.currency)
        standing = self.standings[name]
        now = shown(change.account, standing)
        if not now.within(change.floor, change.ceiling):
            return Refused("LG007")
        if change.status == "closed" and any(now):
            return Refused("LG010")
        self.standings[name] = standing._replace(
            status=change.status, floor=change.floor, ceiling=change.ceiling, changes=standing.changes + 1
        )
        return self.standings[name]

    def _fault(self, posting: Posting) -> str | None:
        # What the guards say of a posting if it is written.
        if any(leg.amount != round(leg.amount, PLACES[leg.account.currency]) for leg in posting.legs):
            return "LG008"
        if posting.reverses is not None and not self._turns_round(posting, posting.reverses):
            return "LG005"
        return None

    def _turns_round(self, posting: Posting, transaction_id: str) -> bool:
        original = self.transactions.get(transaction_id)
        if original is None or original.posting.reverses is not None or original.posting.hold_id is not None:
            return False
        back = {line.account: -line.amount for line in original.lines}
        return {leg.account: leg.amount for leg in posting.legs} == back

    def _become(self, other: Model) -> None:
        self.standings, self.transactions = other.standings, other.transactions
        self.reversed, self.holds, self.fault = other.reversed, other.holds, other.fault


def part(source: Account, target: Account, captured: Decimal, released: Decimal) -> tuple[Leg, ...]:
    """The legs of a hold's resolution."""
    gone = captured + released
    return Leg(source, -captured, pending_debit=-gone), Leg(target, captured, pending_credit=-gone)


def _contents(posting: Posting) -> tuple[object, ...]:
    return (
        posting.kind, posting.reference, posting.happened_at, posting.metadata, posting.reverses, posting.up_to,
        posting.hold_id, posting.expires_at, posting.hold_group, frozenset(posting.legs),
    )  # fmt: skip
