"""Why a posting was not written: one class for each outcome of `ledger.post_v1` that means something to a caller."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.errors import AppError, Conflict, Refused


class InsufficientFunds(Refused):
    """The posting would take an account's available balance below its floor."""

    code, title = "wallet.insufficient_funds", "Not enough money"


class LimitExceeded(Refused):
    """The posting would take an account, with what is pending, above its ceiling."""

    code, title = "wallet.limit_exceeded", "More than this account may hold"


class NothingAvailable(InsufficientFunds):
    """As much as is allowed is nothing."""


class AccountFrozen(Refused):
    """Nothing may leave the account."""

    code, title = "wallet.frozen", "This account is frozen"


class AccountClosed(Refused):
    """Nothing may move on the account."""

    code, title = "wallet.closed", "This account is closed"


class ConditionFailed(Conflict):
    """The balance or version that the caller asked for is not there any more."""

    code, title = "ledger.condition_failed", "The balance has changed"


class KeyReused(Conflict):
    """The posting's key belongs to a transaction with other contents."""

    code, title = "ledger.key_reused", "This key belongs to another transaction"


class AlreadyReversed(Conflict):
    """The transaction was reversed before, under another key."""

    code, title = "ledger.already_reversed", "Already reversed"


class NotReversible(Conflict):
    """A reversal, or a part of a hold."""

    code, title = "ledger.not_reversible", "Cannot be reversed"


class HoldResolved(Conflict):
    """Less is left of the hold than was asked for."""

    code, title = "ledger.hold_resolved", "Less is left of this hold"


_OUTCOMES: dict[str, type[AppError]] = {
    "insufficient_funds": InsufficientFunds,
    "limit_exceeded": LimitExceeded,
    "nothing_available": NothingAvailable,
    "account_frozen": AccountFrozen,
    "account_closed": AccountClosed,
    "condition_failed": ConditionFailed,
    "key_reused": KeyReused,
    "already_reversed": AlreadyReversed,
    "hold_resolved": HoldResolved,
}


def meaning(outcomes: Sequence[str]) -> AppError:
    """The refusal of a linked set: that of the member which failed, not of those that went down with it."""
    return next(_OUTCOMES[outcome]() for outcome in outcomes if outcome != "linked")
