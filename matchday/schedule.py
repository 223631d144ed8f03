"""What runs by the clock: task → every how many seconds. Every one of them may run twice or at once, to no effect."""

from __future__ import annotations

SCHEDULE: dict[str, int] = {
    "identity.send_due_emails": 5,
    "payments.process_due_deliveries": 5,
    "payments.purge_idempotency_keys": 3600,
}
