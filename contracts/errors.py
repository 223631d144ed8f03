"""Every family of refusals Matchday knows; the runtime renders any of them as problem+json.

    Problem (contracts.runtime)          status code title detail errors headers extra
    └── AppError                         a refusal of ours; the class says everything but the detail
        ├── NotAuthenticated 401         auth.*
        ├── Forbidden        403         may not, although known
        ├── NotFound         404         also for what the caller may not know exists
        ├── Conflict         409         the state does not allow it (now)
        ├── Gone             410         was there, is over
        ├── Refused          422         well-formed, and a rule says no
        ├── TooMany          429         Retry-After tells when
        └── Unavailable      503         Retry-After tells when; the same request may be sent again

`code` is API: clients switch on it and it never changes its meaning. `retry` is told to clients when something
helps: `after` (wait for Retry-After) or `same_key` (the same request with the same Idempotency-Key).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from contracts.runtime.problem import Fault, Problem


class AppError(Problem):
    """A refusal; subclasses give `status`, `code` and `title`, callers the detail and extra members."""

    retry: ClassVar[Literal["never", "after", "same_key"]] = "never"
    retry_after_s: int | None = None

    def __init__(self, detail: str | None = None, *, errors: list[Fault] | None = None, **extra: Any) -> None:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.retry != "never":
            extra["retry"] = self.retry
        super().__init__(detail, headers=headers, errors=errors, extra=extra)


class NotAuthenticated(AppError):
    status, code, title = 401, "auth.invalid", "Not authenticated"


class Forbidden(AppError):
    status, code, title = 403, "auth.forbidden", "Not allowed"


class NotFound(AppError):
    status, code, title = 404, "resource.not_found", "Not found"


class Conflict(AppError):
    status, code, title = 409, "state.changed", "The state does not allow this"


class Gone(AppError):
    status, code, title = 410, "resource.gone", "Gone"


class Refused(AppError):
    status, code, title = 422, "rule.refused", "Refused by a rule"


class TooMany(AppError):
    status, code, title = 429, "limit.reached", "Too many requests"
    retry = "after"
    retry_after_s = 1


class Unavailable(AppError):
    status, code, title = 503, "service.unavailable", "Not available now"
    retry = "same_key"
    retry_after_s = 1


class StorageBusy(Unavailable):
    """No connection in time, a statement that ran too long, or a server that is away."""

    code, title = "storage.busy", "Too busy"


class IdempotencyInProgress(Conflict):
    """The first request with this key is still running."""

    code, title = "idempotency.in_progress", "A request with this key is in progress"
    retry = "after"
    retry_after_s = 1


class IdempotencyMismatch(Refused):
    """The key was used for a request that said something else."""

    code, title = "idempotency.mismatch", "This key belongs to another request"
