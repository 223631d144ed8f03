"""Who is asking: what a verified access token says, nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in user in one session. `scopes` are what this token may do, `expires_at` when it ends (UTC)."""

    user_id: str
    session_id: str
    scopes: frozenset[str]
    expires_at: datetime
