"""What the ledger read, as contracts/wallet.yaml describes it."""

from __future__ import annotations

from typing import Any

from handlers.wallet import reads
from ledger.balances import Balance, Entry
from ledger.lookup import OwnSide
from ledger.open_holds import HoldState, OpenHold
from ledger.pages import Page
from ledger.statements import INDIA_NAME, Statement

Body = dict[str, Any]


def balance(found: Balance) -> Body:
    return {
        "available": found.available.json(),
        "posted": found.posted.json(),
        "held": found.held.json(),
        "pending": found.pending.json(),
        "status": found.status,
        "entries": found.sequence,
        "as_of": found.recorded_at.isoformat() if found.recorded_at else None,
    }


def page(found: Page) -> Body:
    return {
        "items": [entry(item) for item in found.items],
        "next_cursor": reads.cursor(found.older),
        "previous_cursor": reads.cursor(found.newer, newer=True),
        "archived_before": found.archived_before.isoformat() if found.archived_before else None,
    }


def entry(found: Entry) -> Body:
    return {
        "transaction_id": found.transaction_id,
        "sequence": found.sequence,
        "kind": found.kind,
        "reference": found.reference,
        "amount": found.amount.wire(),
        "held": found.held.wire(),
        "pending": found.pending.wire(),
        "balance_after": found.balance_after.wire(),
        "currency": found.amount.currency,
        "happened_at": found.happened_at.isoformat(),
        "recorded_at": found.recorded_at.isoformat(),
    }


def statement(head: Statement, lines: list[Entry]) -> Body:
    first, last = head.sequences or (None, None)
    more = bool(lines) and lines[-1].sequence < head.closing.sequence
    return {
        "currency": head.account.currency,
        "from": head.period.first.isoformat(),
        "to": head.period.last.isoformat(),
        "time_zone": INDIA_NAME,
        "opening_balance": head.opening.posted.wire(),
        "credits": head.credits.wire(),
        "debits": head.debits.wire(),
        "closing_balance": head.closing.posted.wire(),
        "entries": head.count,
        "first_sequence": first,
        "last_sequence": last,
        "complete": head.complete,
        "lines": [{**entry(line), "posted_late": head.posted_late(line)} for line in lines],
        "next_cursor": reads.cursor(lines[-1].recorded_at) if more else None,
    }


def holds(found: list[OpenHold], limit: int) -> Body:
    """A page of holds, of which one more than the limit was read."""
    items = found[:limit]
    return {
        "items": [
            {
                **hold(item.state),
                "kind": item.kind,
                "reference": item.reference,
                "placed_at": item.placed_at.isoformat(),
            }
            for item in items
        ],
        "next_cursor": reads.cursor(items[-1].placed_at) if len(found) > limit else None,
    }


def hold(found: HoldState) -> Body:
    return {
        "hold_id": found.hold_id,
        "direction": found.direction,
        "amount": found.amount.wire(),
        "captured": found.captured.wire(),
        "released": found.released.wire(),
        "left": found.left.wire(),
        "currency": found.amount.currency,
        "expires_at": found.expires_at.isoformat(),
    }


def transaction(found: OwnSide) -> Body:
    return {
        **entry(found.entry),
        "reverses": found.reverses,
        "reversed_by": found.reversed_by,
        "hold": hold(found.hold) if found.hold else None,
    }
