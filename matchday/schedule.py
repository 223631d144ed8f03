"""What runs by the clock: task → every how many seconds. Every one of them may run twice or at once, to no effect."""

from __future__ import annotations

SCHEDULE: dict[str, int] = {
    "identity.send_due_emails": 5,
    "ledger.seal": 2,
    "ledger.expire_holds": 30,
    "ledger.anchor": 3600,
    "ledger.ensure_months": 86_400,
    "ledger.check": 86_400,
    "payments.process_due_deliveries": 5,
    "payments.purge_idempotency_keys": 3600,
    "streams.keep_days": 3600,
}
