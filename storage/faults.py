"""PostgreSQL's refusals as our errors: by constraint name or SQLSTATE, never by message text.

Whoever owns a constraint registers what its violation means; a violation that nobody registered is a bug and
stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from contracts.errors import StorageBusy

Meaning = Callable[[asyncpg.PostgresError], Exception]

# The server ends the session, or does not begin one now: shut down, crashed (then all sessions end), starting.
SERVER_GONE = (
    asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)  # fmt: skip

_by_constraint: dict[str, Meaning] = {}
_by_sqlstate: dict[str, Meaning] = {}


class Retryable(Exception):
    """PostgreSQL could not serialise this transaction with another: run the use case again."""


def on_constraint(name: str, meaning: Meaning) -> None:
    """Say what the violation of a named constraint means."""
    _by_constraint[name] = meaning


def on_sqlstate(code: str, meaning: Meaning) -> None:
    """Say what an SQLSTATE means (the ledger's functions raise their own class)."""
    _by_sqlstate[code] = meaning


def translate(fault: asyncpg.PostgresError) -> Exception:
    """The error that a refusal stands for; the refusal itself when nobody registered a meaning."""
    if isinstance(fault, (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)):
        return Retryable()
    if isinstance(fault, (asyncpg.QueryCanceledError, *SERVER_GONE)):
        return StorageBusy()
    constraint = getattr(fault, "constraint_name", None)
    meaning = _by_constraint.get(constraint or "") or _by_sqlstate.get(fault.sqlstate or "")
    return meaning(fault) if meaning else fault
