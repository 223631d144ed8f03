"""What is asked of the ledger: bursts of requests, made so that refusals, boundaries and crowds are common.

Few accounts, small amounts, narrow limits. What a request refers to (a key, a hold, a transaction, a group) was nearly
always asked for before, often in the same burst, though maybe refused: ids follow from keys, so nothing here depends on
what the database answered, and the same dice ask for the same things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import TypeVar

from contracts import ids
from contracts.money import Money
from ledger.accounts import Account
from ledger.journal import Leg, Posting, Resolution
from tests.money.clients import LANES
from tests.money.model import PLACES, ZERO, Change, Look, Post, Request, Resolve, ResolveGroup, Reverse, part

T = TypeVar("T")

BANK, FEES, YEN = Account("bank", "INR", "asset"), Account("fees", "INR", "income"), Account("yen", "JPY", "asset")
# In the order in which the opening gives them their numbers: that of their codes.
CHART = (
    BANK,
    Account("costs", "INR", "expense", Decimal(-1), Decimal("0.20")),
    Account("credit", "INR", "liability", Decimal("-0.10")),
    FEES,
    Account("jar", "INR", "liability", Decimal(0), Decimal("0.25")),
    Account("till", "INR", "asset", Decimal(0), Decimal("0.40")),
    Account("wallet", "INR", "liability", Decimal(0)),
    Account("wallet", "JPY", "liability", Decimal(0), Decimal(30)),
    YEN,
)
LIMITED = tuple(account for account in CHART if account.floor is not None)
OPENING = Posting(
    "opening", "opening", "", None,
    tuple(
        Leg(account, Decimal(amount))
        for account, amount in zip(
            CHART, ("-0.24", "-0.01", "0.05", "0.01", "0.09", "-0.10", "0.20", "15", "-15"), strict=True
        )
    ),
)  # fmt: skip
LATER = datetime(2099, 1, 1, tzinfo=UTC)
PAST = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNKNOWN = "never asked for"

# How often each comes, one in so many.
POSTINGS = {
    "transfer": 7, "split": 2, "exchange": 2, "conditional": 3, "up_to": 2, "hold": 3, "part": 3, "undo": 1,
}  # fmt: skip
REQUESTS = {
    "single": 5, "poster": 5, "linked": 3, "many": 4, "aborted": 1, "unfit": 1, "resolve": 3, "group": 1, "reverse": 2,
    "change": 3, "close": 1, "look": 2,
}  # fmt: skip


class Desk:
    """Makes requests, and remembers what it asked for."""

    def __init__(self) -> None:
        self._dice = Random()
        self._repeats = 0  # the percentage of what came before
        self._accounts: Sequence[Account] = CHART
        self._bursts = 0
        self._keys = 0
        self._postings = [OPENING]
        self._holds: list[Posting] = []
        self._resolutions: list[Resolve] = []
        self._groups: list[ResolveGroup] = []
        self._reversals: list[Reverse] = []

    def burst(self, dice: Random, *, size: int, accounts: Sequence[Account], repeats: int) -> list[list[Request]]:
        """Requests for each lane, all to be carried out at once. `repeats` is a percentage."""
        self._dice, self._accounts, self._repeats = dice, accounts, repeats
        self._bursts += 1
        lanes: list[list[Request]] = [[] for _ in range(LANES)]
        for _ in range(size):
            what, lane = self._any(REQUESTS), dice.choice(lanes)
            lane += self._closing() if what == "close" else [self._request(what)]
        return lanes

    def _request(self, what: str) -> Request:
        match what:
            case "single":
                return Post(((self._posting(),),), "single")
            case "linked" | "poster" as way:
                return Post(self._sets(1), way)
            case "many" | "aborted" as way:
                return Post(self._sets(self._dice.randrange(1, 5)), way)
            case "resolve":
                return self._again_or(self._resolutions, self._resolve)
            case "group":
                return self._again_or(self._groups, self._group)
            case "reverse":
                return self._again_or(self._reversals, self._reverse)
            case "change":
                return self._change()
            case "unfit":
                return self._unfit()
        return Look()

    def _sets(self, count: int) -> tuple[tuple[Posting, ...], ...]:
        # A call has a key once, and resolves no hold that it places. Some calls want the same hold again and again.
        keys: set[str] = set()
        placed: set[str | None] = set()
        sets = []
        hold = self._recent(self._holds) if self._holds and self._percent(20) else None
        for _ in range(count):
            postings = []
            for _ in range(self._dice.choice((1, 1, 1, 2, 3))):
                posting = self._posting() if hold is None or self._percent(40) else self._part(hold)
                if posting.key not in keys and posting.hold_id not in placed:
                    postings.append(posting)
                    keys.add(posting.key)
                    placed |= {posting.hold_id} if posting.expires_at else set()
            sets += [tuple(postings)] if postings else []
        return tuple(sets)

    def _posting(self) -> Posting:
        if self._percent(self._repeats):
            return self._again(self._recent(self._postings))
        posting: Posting = getattr(self, f"_{self._any(POSTINGS)}")()
        self._postings.append(posting)
        if posting.expires_at:
            self._holds.append(posting)
        return posting

    def _transfer(self) -> Posting:
        source, target = self._pair()
        return self._new("transfer", self._moved(source, target, self._amount(source)))

    def _split(self) -> Posting:
        currency = self._dice.choice(("INR", "INR", "INR", "JPY"))
        accounts = [account for account in self._accounts if account.currency == currency]
        if len(accounts) < 3:
            return self._transfer()
        one, *others = self._dice.sample(accounts, self._dice.randrange(3, min(4, len(accounts)) + 1))
        sign = self._dice.choice((1, -1))
        legs = [Leg(account, sign * self._amount(account)) for account in others]
        return self._new("split", (Leg(one, -sum((leg.amount for leg in legs), ZERO)), *legs))

    def _exchange(self) -> Posting:
        legs: list[Leg] = []
        for currency in PLACES:
            source, target = self._dice.sample([account for account in CHART if account.currency == currency], 2)
            legs += self._moved(source, target, self._amount(source))
        return self._new("exchange", tuple(legs))

    def _conditional(self) -> Posting:
        if self._dice.randrange(3) == 0:  # the first, second or third posting on a new account
            fresh = Account(f"new{self._bursts}", "INR", "liability")
            legs = self._moved(BANK, fresh, self._amount(BANK))
            return self._new("conditional", (legs[0], replace(legs[1], version=self._dice.randrange(3))))
        source, target = self._pair()
        first, second = self._moved(source, target, self._amount(source))
        limit = self._amount(source) * self._dice.randrange(3)
        first = replace(first, at_least=limit) if self._percent(50) else replace(first, at_most=limit)
        return self._new("conditional", (first, second))

    def _up_to(self) -> Posting:
        source, target = self._pair()
        legs = self._moved(source, target, self._amount(source) * self._dice.choice((1, 4)))
        return replace(self._new("up_to", legs), up_to=True)

    def _hold(self) -> Posting:
        source, target = self._pair()
        if self._percent(50) and FEES not in (source, target) and source.currency == "INR":
            source = FEES  # which always has enough
        amount = self._amount(source)
        legs = (Leg(source, ZERO, pending_debit=amount), Leg(target, ZERO, pending_credit=amount))
        posting = self._new("hold", legs)
        group = self._dice.choice((None, f"g{self._bursts // 2}")) if source.currency == "INR" else None
        return replace(posting, hold_id=ids.derived("hld", posting.key), expires_at=LATER, hold_group=group)

    def _part(self, hold: Posting | None = None) -> Posting:
        hold = hold or (self._recent(self._holds) if self._holds else None)
        if hold is None:
            return self._hold()
        captured, released = self._shares(hold)
        legs = part(hold.legs[0].account, hold.legs[1].account, captured, released)
        return replace(self._new("part", legs), hold_id=hold.hold_id)

    def _undo(self) -> Posting:
        original = self._recent(self._postings)
        legs = tuple(Leg(leg.account, -leg.amount) for leg in original.legs if leg.amount)
        if len(legs) < len(original.legs):
            return self._transfer()
        transaction_id = ids.derived("txn", original.key)
        return replace(self._new("reversal", legs), metadata={"reverses": transaction_id}, reverses=transaction_id)

    def _again(self, posting: Posting) -> Posting:
        """The same as before, in the same words or others; or something else under the same key."""
        match self._dice.randrange(8):
            case 0 if posting.hold_id is None:
                return replace(posting, legs=posting.legs[::-1])
            case 1:
                return replace(posting, kind="other")
            case 2:
                return replace(posting, happened_at=PAST)
            case 3:
                legs = tuple(
                    replace(leg, amount=leg.amount * 2, pending_debit=leg.pending_debit * 2, pending_credit=leg.pending_credit * 2)
                    for leg in posting.legs
                )  # fmt: skip
                return replace(posting, legs=legs)
            case 4 if posting.kind == "transfer":
                return replace(posting, legs=self._moved(*self._pair(), Decimal(1)))
        return posting

    def _resolve(self) -> Resolve:
        holds = [hold for hold in self._holds if hold.legs[0].account.currency == "INR"]
        if not holds or self._percent(5):
            return Resolve(
                Resolution(self._key(), "part", "", None, ids.derived("hld", UNKNOWN), Money(Decimal(1), "INR"))
            )
        hold = self._recent(holds)
        captured, released = (Money(share, "INR") if share else None for share in self._shares(hold))
        return Resolve(Resolution(self._key(), "part", "", None, str(hold.hold_id), captured, released))

    def _group(self) -> ResolveGroup:
        group = f"g{max(0, self._bursts // 2 - self._dice.randrange(2))}"
        return ResolveGroup(group, self._key(), capture=self._percent(60))

    def _reverse(self) -> Reverse:
        key = UNKNOWN if self._percent(5) else self._recent(self._postings).key
        return Reverse(ids.derived("txn", key), self._key())

    def _change(self) -> Change:
        account = self._dice.choice(LIMITED)
        status = self._dice.choice((*("open",) * 8, "frozen", "closed"))
        floor = self._dice.choice((*(account.floor,) * 6, None, self._amount(account)))
        ceiling = self._dice.choice((*(account.ceiling,) * 6, None, self._amount(account) * 3))
        return Change(account, status, floor, ceiling)

    def _closing(self) -> list[Request]:
        account = self._dice.choice([account for account in LIMITED if account.floor == ZERO])
        other = BANK if account.currency == "INR" else YEN
        pair = (account, other) if account.credit_normal else (other, account)
        empty = replace(self._new("up_to", self._moved(*pair, Decimal(100))), up_to=True)
        return [Post(((empty,),), "single"), Change(account, "closed", account.floor, account.ceiling)]

    def _unfit(self) -> Request:
        way = self._dice.choice(("single", "poster", "many", "aborted"))
        if self._percent(50):
            return Post(((self._new("unfit", self._moved(replace(BANK, floor=ZERO), FEES, Decimal(1))),),), way)
        unfit = self._new("unfit", self._moved(BANK, FEES, Decimal("0.005")))
        others = ((self._transfer(),),) if way in ("many", "aborted") else ()
        return Post((*others, (unfit,), *others[1:]), way)

    def _new(self, kind: str, legs: tuple[Leg, ...]) -> Posting:
        return Posting(self._key(), kind, "", self._dice.choice((None, None, PAST)), legs)

    def _key(self) -> str:
        self._keys += 1
        return f"k{self._keys}"

    def _pair(self) -> tuple[Account, Account]:
        source = self._dice.choice(self._accounts)
        targets = [account for account in self._accounts if account.currency == source.currency and account != source]
        return source, self._dice.choice(targets)

    def _amount(self, account: Account) -> Decimal:
        return Decimal(self._dice.randrange(1, 10)).scaleb(-PLACES[account.currency])

    @staticmethod
    def _moved(source: Account, target: Account, amount: Decimal) -> tuple[Leg, Leg]:
        return Leg(source, -amount), Leg(target, amount)

    def _shares(self, hold: Posting) -> tuple[Decimal, Decimal]:
        """What to capture and to release: parts, all, or more than all."""
        held = hold.legs[0].pending_debit
        unit = Decimal(1).scaleb(-PLACES[hold.legs[0].account.currency])
        first = self._dice.choice((held, held, held + unit, unit, unit))
        shares = (first, self._dice.choice((ZERO, unit, max(held - first, ZERO))))
        return shares if self._percent(60) else shares[::-1]

    def _recent(self, past: Sequence[T]) -> T:
        """One of the last, mostly of this burst, or one of a while ago, whose fate is decided."""
        ago = self._dice.randrange(12) + self._dice.choice((0, 30))
        return past[-1 - ago % len(past)]

    def _again_or(self, past: list[T], new: Callable[[], T]) -> T:
        if past and self._percent(self._repeats):
            return self._recent(past)
        past.append(new())
        return past[-1]

    def _percent(self, chance: int) -> bool:
        return self._dice.randrange(100) < chance

    def _any(self, of: dict[str, int]) -> str:
        return self._dice.choice([name for name, weight in of.items() for _ in range(weight)])
