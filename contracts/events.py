"""The event: a fact in the past tense that commits together with the change it tells.

contracts/events.yaml describes every type, its channels and its data; streams/ delivers it as a
CloudEvents 1.0 envelope.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts import ids


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `subject` is the id of what it is about; `channels` are those it is delivered on."""

    type: str
    subject: str
    channels: tuple[str, ...]
    data: dict[str, Any]
    id: str = field(default_factory=lambda: ids.new("evt"))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
