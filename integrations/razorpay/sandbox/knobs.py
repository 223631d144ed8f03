"""Misbehaviour on demand: what the next deliveries and API answers do wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass
class Knobs:
    """Counters run down as they are used; `delay_ms` stays until it is set again. Kept in memory only.

    duplicate       the next event is delivered this many extra times
    delay_ms        events made from now on are first delivered this much later
    drop            the next events, this many, are never sent (redeliver sends them after all)
    bad_signature   the next attempts, this many, are signed with another secret
    http_500_next   the next API calls, this many, answer 500 with an HTML page and do nothing
    timeout_next    the next API calls, this many, do their work and never answer
    """

    duplicate: int = 0
    delay_ms: int = 0
    drop: int = 0
    bad_signature: int = 0
    http_500_next: int = 0
    timeout_next: int = 0

    def turn(self, values: Mapping[str, object]) -> None:
        """Set the named knobs. Raises ValueError for a knob that does not exist or is not 0 or more."""
        names = {field.name for field in fields(self)}
        for name, value in values.items():
            if name not in names:
                raise ValueError(f"no such knob; there are {', '.join(sorted(names))}")
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} must be an integer of 0 or more")
        for name, value in values.items():
            setattr(self, name, value)

    def take(self, name: str) -> bool:
        """Use up one of a counter, and tell whether there was one."""
        left: int = getattr(self, name)
        setattr(self, name, max(0, left - 1))
        return left > 0

    def take_all(self, name: str) -> int:
        """Use up a counter whole."""
        left: int = getattr(self, name)
        setattr(self, name, 0)
        return left

    def shown(self) -> dict[str, int]:
        """Every knob and where it stands."""
        return asdict(self)
