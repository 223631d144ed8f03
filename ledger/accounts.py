"""The chart of accounts: every account Matchday keeps, by kind.

An account is named by a code (`wallet:usr_…`) and a currency and is opened by the first posting that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["asset", "liability", "equity", "income", "expense"]
CREDIT_NORMAL: frozenset[Kind] = frozenset({"liability", "equity", "income"})


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the chart defines it. `floor` is the lowest balance on its normal side, None for no limit."""

    code: str
    currency: str
    kind: Kind
    floor: Decimal | None = None
    ceiling: Decimal | None = None

    @property
    def credit_normal(self) -> bool:
        return self.kind in CREDIT_NORMAL


def wallet(user_id: str, currency: str) -> Account:
    """What Matchday owes a user. Never below zero."""
    return Account(f"wallet:{user_id}", currency, "liability", Decimal(0))


def gateway_clearing(gateway: str, currency: str) -> Account:
    """What a gateway has collected for us and not settled yet. Refunds may take it below zero for a while."""
    return Account(f"gateway_clearing:{gateway}", currency, "asset")
