"""The worked example of ledger/README.md, carried out on a real database; its line format is described there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import ledger
from contracts.money import Money
from ledger import balances, checks, journal, recipes
from ledger.accounts import Account
from ledger.journal import Posting
from storage.db import Connection, Database

CURRENCY = "INR"
RECIPES: dict[str, Callable[..., Posting]] = {"deposit": recipes.deposit}
ENTRIES = (
    "SELECT a.code, e.sequence, e.amount, e.balance_after FROM ledger.entries e"
    " JOIN ledger.accounts a ON a.id = e.account_id WHERE e.transaction_id = $1"
)
CLOSING = (
    "SELECT a.code, a.kind, b.debits - b.credits AS balance FROM ledger.balances b"
    " JOIN ledger.accounts a ON a.id = b.account_id"
)

Line = tuple[Any, ...]


@dataclass(slots=True)
class Step:
    """One posting of the example, with the legs and entries that it must have."""

    posting: Posting
    legs: set[Line] = field(default_factory=set)
    entries: set[Line] = field(default_factory=set)


@dataclass(slots=True)
class Example:
    """The whole block."""

    steps: dict[str, Step] = field(default_factory=dict)  # by payment
    again: list[str] = field(default_factory=list)
    trial: set[Line] = field(default_factory=set)
    total: Line = ()
    reads: list[Line] = field(default_factory=list)


@pytest.fixture(scope="module")
def example() -> Example:
    readme = (Path(ledger.__file__).parent / "README.md").read_text("utf-8")
    _, block = readme.split("```example\n")
    return parse(block.split("```")[0])


def parse(block: str) -> Example:
    found = Example()
    step: Step | None = None
    for word, *columns in (line.split() for line in block.splitlines() if line.strip()):
        match word, columns:
            case "post", [recipe, amount, *facts]:
                named: dict[str, Any] = dict(fact.split("=", 1) for fact in facts)
                named["happened_at"] = datetime.fromisoformat(named["happened_at"])
                step = Step(RECIPES[recipe](amount=Money.parse(amount, CURRENCY), **named))
                found.steps[named["payment_id"]] = step
            case "leg", [account, amount] if step:
                step.legs.add((account, Decimal(amount)))
            case "entry", [account, sequence, amount, after] if step:
                step.entries.add((account, int(sequence), Decimal(amount), Decimal(after)))
            case "again", [payment]:
                found.again.append(payment)
            case "trial", [account, kind, debit, credit]:
                found.trial.add((account, kind, Decimal(debit), Decimal(credit)))
            case "total", [debit, credit]:
                found.total = (Decimal(debit), Decimal(credit))
            case "reads", [account, sequence, amount, after]:
                found.reads.append((account, int(sequence), amount, after))
            case _:
                raise ValueError(f"not a line of the example: {word} {columns}")
    return found


def test_the_example_says_all_it_promises(example: Example) -> None:
    assert len(example.steps) == 2
    assert all(step.legs and step.entries for step in example.steps.values())
    assert example.again
    assert example.trial
    assert example.total
    assert example.reads


def test_the_recipes_make_the_legs_of_the_example(example: Example) -> None:
    for step in example.steps.values():
        assert {(leg.account.code, leg.amount) for leg in step.posting.legs} == step.legs


async def test_the_books_become_what_the_example_says(example: Example, database: Database) -> None:
    written: dict[str, str] = {}
    for payment, step in example.steps.items():
        async with database.transaction() as conn:
            posted = await journal.post(conn, step.posting)
            entries = {tuple(row) for row in await conn.raw.fetch(ENTRIES, posted.transaction_id)}
        assert entries == step.entries
        written[payment] = posted.transaction_id
    for payment in example.again:
        async with database.transaction() as conn:
            repeat = await journal.post(conn, example.steps[payment].posting)
        assert (repeat.transaction_id, repeat.replayed) == (written[payment], True)
    async with database.connection() as conn:
        trial = {_closing(row["code"], row["kind"], row["balance"]) for row in await conn.raw.fetch(CLOSING)}
        assert trial == example.trial
        assert (sum(line[2] for line in trial), sum(line[3] for line in trial)) == example.total
        assert await _read(conn, _accounts(example)) == sorted(example.reads)
        assert await checks.violations(conn) == []


def _closing(code: str, kind: str, balance: Decimal) -> Line:
    return code, kind, max(balance, Decimal(0)), max(-balance, Decimal(0))


def _accounts(example: Example) -> set[Account]:
    return {leg.account for step in example.steps.values() for leg in step.posting.legs}


async def _read(conn: Connection, accounts: set[Account]) -> list[Line]:
    lines: list[Line] = []
    for account in accounts:
        for entry in await balances.entries(conn, account, before=datetime.max.replace(tzinfo=UTC), limit=100):
            lines.append((account.code, entry.sequence, entry.amount.wire(), entry.balance_after.wire()))
    return sorted(lines)
