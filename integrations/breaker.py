"""Circuit breaker: stop asking a provider that does not answer, then let one call find out.

closed ──failures in a row──▶ open ──open_s──▶ half-open (one probe)
  ▲                             ▲                  │      │
  └───────── any success ───────┼──────────────────┘      │
                                └──── probe fails ────────┘
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from integrations.ports import ProviderOutcomeUnknown, ProviderUnavailable


class CircuitBreaker:
    """Counts failures in a row of one provider. A refusal is an answer and counts as success."""

    def __init__(
        self, *, failures_to_open: int = 5, open_s: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @contextmanager
    def guard(self, provider: str, operation: str) -> Iterator[None]:
        """Run one call. Raises ProviderUnavailable at once while the circuit is open."""
        probe = self._admit(provider, operation)
        try:
            yield
        except (ProviderUnavailable, ProviderOutcomeUnknown):
            self._failed()
            raise
        except Exception:
            self._succeeded()
            raise
        else:
            self._succeeded()
        finally:
            # A cancelled probe tells nothing, but must not keep the next one out.
            if probe:
                self._probing = False

    def _admit(self, provider: str, operation: str) -> bool:
        if self._opened_at is None:
            return False
        remaining_s = self._opened_at + self._open_s - self._clock()
        if remaining_s > 0 or self._probing:
            retry_after_s = max(1, math.ceil(remaining_s))
            raise ProviderUnavailable(provider, operation, "circuit open", retry_after_s=retry_after_s)
        self._probing = True
        return True

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= self._failures_to_open:
            self._opened_at = self._clock()

    def _succeeded(self) -> None:
        self._failures = 0
        self._opened_at = None
