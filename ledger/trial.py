"""The trial balance: all accounts, or groups of them by the first segments of their codes, now or at a past instant.

Debit and credit columns sum to the same in each currency. A group's balance is that of its accounts together, so the
stripes `code:s0` to `code:s15` of a hot account add up in `code`, and `wallet` is what we owe all players.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ledger.accounts import CREDIT_NORMAL, Kind
from ledger.reading import NEWEST, ArchivedEntries, Q
from storage import sql
from storage.db import Connection

ZERO = Decimal(0)
ALL_SEGMENTS = 200  # a code has no more characters than that
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """Accounts whose codes begin alike, in one currency. `kind` is None where they are of several kinds.

    `posted` is signed, plus is credit. The pending sides are what open holds will at most bring to it and take from it.
    """

    code: str
    currency: str
    kind: Kind | None
    accounts: int
    posted: Decimal
    pending_credits: Decimal
    pending_debits: Decimal

    @property
    def debit(self) -> Decimal:
        return max(-self.posted, ZERO)

    @property
    def credit(self) -> Decimal:
        return max(self.posted, ZERO)

    @property
    def balance(self) -> Decimal:
        """Signed on the normal side of its kind; plus is credit for a mixed group."""
        return self.posted if self.kind is None or self.kind in CREDIT_NORMAL else -self.posted


async def trial_balance(
    conn: Connection, *, code: str = "", segments: int | None = None, at: datetime = NEWEST
) -> AsyncIterator[Group]:
    """Groups by code and currency: of all accounts, or of a code and those below it, as recorded up to an instant.

    `segments` is how many of a code's segments make a group, None for one group for each account. Reads every account,
    in one statement; call it in a transaction of level read committed. Raises ArchivedEntries before the first group.
    """
    query, depth = Q.groups, segments if segments is not None else ALL_SEGMENTS
    parameters = {"depth": depth, "at": at, "code": code}
    args = [parameters[name] for name in query.parameters]
    async for row in conn.raw.cursor(query.sql, *args, prefetch=PAGE):
        if not row["known"]:
            raise ArchivedEntries
        yield _group(row)


async def tree(conn: Connection, *, code: str = "", levels: int, at: datetime = NEWEST) -> list[Group]:
    """A code, and so many levels below it, each node with all that is under it, in the order of a drawn tree.

    Conditions and refusals as for `trial_balance`. The root of all has the code "".
    """
    own = code.count(":") + 1 if code else 0
    nodes: dict[tuple[str, str], list[Group]] = {}
    async for leaf in trial_balance(conn, code=code, segments=own + levels, at=at):
        parts = leaf.code.split(":") if leaf.code else []
        for length in range(own, len(parts) + 1):
            nodes.setdefault((":".join(parts[:length]), leaf.currency), []).append(leaf)
    return [_together(node, currency, leaves) for (node, currency), leaves in sorted(nodes.items(), key=_place)]


def _together(code: str, currency: str, leaves: Iterable[Group]) -> Group:
    leaves = list(leaves)
    kinds = {leaf.kind for leaf in leaves}
    return Group(
        code=code,
        currency=currency,
        kind=kinds.pop() if len(kinds) == 1 else None,
        accounts=sum(leaf.accounts for leaf in leaves),
        posted=sum((leaf.posted for leaf in leaves), ZERO),
        pending_credits=sum((leaf.pending_credits for leaf in leaves), ZERO),
        pending_debits=sum((leaf.pending_debits for leaf in leaves), ZERO),
    )


def _place(node: tuple[tuple[str, str], list[Group]]) -> tuple[str, list[str]]:
    (code, currency), _ = node
    return currency, code.split(":") if code else []


def _group(row: sql.Row) -> Group:
    return Group(
        code=row["code"],
        currency=row["currency"],
        kind=row["kind"],
        accounts=row["accounts"],
        posted=row["posted"],
        pending_credits=row["pending_credits"],
        pending_debits=row["pending_debits"],
    )
