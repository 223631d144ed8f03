"""The worked example of ledger/README.md, carried out on a real database; its line format is described there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import ledger
from contracts import ids
from contracts.errors import AppError
from contracts.money import Money
from ledger import accounts, balances, bookings, checks, journal, recipes, treasury
from ledger.accounts import Account
from ledger.journal import Hold, Posted, Posting, Resolution
from ledger.split import Supply, Terms
from storage.db import Connection, Database

CURRENCY = "INR"
README = (Path(ledger.__file__).parent / "README.md").read_text("utf-8")
MODULES = {"recipes": recipes, "bookings": bookings, "treasury": treasury}
ENTRIES = (
    "SELECT a.code, a.credit_normal, e.amount, e.pending_debit, e.pending_credit, e.credits - e.debits AS balance,"
    " e.pending_debits, e.pending_credits FROM ledger.entries e"
    " JOIN ledger.accounts a ON a.id = e.account_id WHERE e.transaction_id = $1"
)
CLOSING = (
    "SELECT a.code, a.kind, b.debits - b.credits AS balance FROM ledger.balances b"
    " JOIN ledger.accounts a ON a.id = b.account_id"
)

Fact = Posting | Hold | Resolution
Line = tuple[Any, ...]


@dataclass(slots=True)
class Step:
    """One fact of the example: what the recipe made of it, and the lines that must follow, or the refusal."""

    made: Sequence[Fact]
    lines: set[Line] = field(default_factory=set)
    refusal: str | None = None


@dataclass(slots=True)
class Example:
    """The whole block."""

    steps: list[Step | str] = field(default_factory=list)  # a string is the key of a posting that is told again
    trial: set[Line] = field(default_factory=set)
    total: Line = ()
    reads: list[Line] = field(default_factory=list)


class Reader:
    """Reads the block from above to below."""

    def __init__(self) -> None:
        self.example = Example()
        self._terms: dict[str, Terms] = {}
        self._now: datetime | None = None

    def read(self, block: str) -> Example:
        for line in re.sub(r"\n[ ]+", " ", block).splitlines():  # an indented line continues the one before
            word, *columns = line.split() or ["#"]
            match word, columns:
                case "#", _:
                    pass
                case "terms", [name, *rates]:
                    self._terms[name] = self._call(Terms, rates)
                case "at", [instant]:
                    self._now = datetime.fromisoformat(instant)
                case "do", [recipe, *facts]:
                    self.example.steps.append(Step(self._fact(recipe, facts)))
                case "no", [refusal, recipe, *facts]:
                    self.example.steps.append(Step(self._fact(recipe, facts), refusal=refusal))
                case "again", [key]:
                    self.example.steps.append(key)
                case "dr" | "cr" | "held" | "due", [account, amount, after, *side]:
                    step = self.example.steps[-1]
                    assert isinstance(step, Step)
                    step.lines.add((word, account, Decimal(amount), Decimal(after), *side))
                case "trial", [account, kind, debit, credit]:
                    self.example.trial.add((account, kind, Decimal(debit), Decimal(credit)))
                case "total", [debit, credit]:
                    self.example.total = (Decimal(debit), Decimal(credit))
                case "reads", [account, sequence, *amounts]:
                    self.example.reads.append((account, int(sequence), *amounts))
                case _:
                    raise ValueError(f"not a line of the example: {line}")
        return self.example

    def _fact(self, recipe: str, facts: list[str]) -> Sequence[Fact]:
        module, name = recipe.split(".")
        made = self._call(getattr(MODULES[module], name), facts)
        return made if isinstance(made, tuple) else (made,)

    def _call(self, function: Callable[..., Any], facts: list[str]) -> Any:
        """The function with its arguments, each read as its annotation says."""
        readers: dict[Any, Callable[[str], Any]] = {
            str: str,
            int: int,
            Money: lambda text: Money.parse(text, CURRENCY),
            datetime: datetime.fromisoformat,
            Account: lambda text: accounts.of(text, CURRENCY),
            Supply: Supply,
            Terms: self._terms.__getitem__,
            Mapping[str, Money]: lambda text: {
                name: Money.parse(amount, CURRENCY) for name, amount in (pair.split(":") for pair in text.split(","))
            },
        }
        hints = get_type_hints(function)
        arguments = {name: readers[hints[name]](text) for name, text in (fact.split("=", 1) for fact in facts)}
        if "happened_at" in hints:
            arguments["happened_at"] = self._now
        return function(**arguments)


@pytest.fixture(scope="module")
def example() -> Example:
    _, block = README.split("```example\n")
    return Reader().read(block.split("```")[0])


def test_the_example_follows_a_booking_from_deposit_to_payout(example: Example) -> None:
    facts = [made.kind for step in example.steps if isinstance(step, Step) for made in step.made]
    path = ["deposit", "booking_held", "booking_captured", "settlement", "gateway_settlement", "payout_held"]
    assert {*path, "payout_sent", "payout_settled", "cancellation", "refund", "refund_processed"} <= set(facts)
    assert [fact for fact in facts if fact in path[:1]] and [facts.index(fact) for fact in path] == sorted(
        facts.index(fact) for fact in path
    )
    assert any(isinstance(step, str) for step in example.steps)
    assert all(step.lines or step.refusal for step in example.steps if isinstance(step, Step))
    assert example.trial and example.total and example.reads


async def test_the_books_become_what_the_example_says(example: Example, database: Database) -> None:
    told: dict[str, Sequence[Fact]] = {}
    for step in example.steps:
        if isinstance(step, str):
            assert all(posted.replayed for posted in await tell(database, told[step]))
        elif step.refusal:
            with pytest.raises(AppError) as refused:
                await tell(database, step.made)
            assert refused.value.code == step.refusal
        else:
            told |= {made.key: step.made for made in step.made}
            written = await tell(database, step.made)
            assert not any(posted.replayed for posted in written)
            assert await lines(database, written) == step.lines
    async with database.connection() as conn:
        assert await closing(conn) == example.trial
        columns = zip(*(line[2:] for line in example.trial), strict=True)
        assert tuple(map(sum, columns)) == example.total
        assert example.total[0] == example.total[1]
        assert await read(conn, {line[0] for line in example.reads}) == sorted(example.reads)
        assert await checks.violations(conn) == []


async def tell(database: Database, made: Sequence[Fact]) -> tuple[Posted, ...]:
    """Post what a recipe made, as its callers do: all of it or nothing."""
    async with database.transaction() as conn:
        return await journal.post_linked(conn, [await _posting(conn, fact) for fact in made])


async def _posting(conn: Connection, fact: Fact) -> Posting:
    if isinstance(fact, Resolution):
        return await journal.resolving(conn, fact)
    return fact.posting() if isinstance(fact, Hold) else fact


async def lines(database: Database, written: Sequence[Posted]) -> set[Line]:
    """The entries of transactions, in the words of the example."""
    found: set[Line] = set()
    async with database.connection() as conn:
        for posted in written:
            for row in await conn.raw.fetch(ENTRIES, ids.decode(posted.transaction_id.removeprefix("txn_"))):
                found |= _lines(**row)
    return found


def _lines(
    code: str,
    credit_normal: bool,
    amount: Decimal,
    pending_debit: Decimal,
    pending_credit: Decimal,
    balance: Decimal,
    pending_debits: Decimal,
    pending_credits: Decimal,
) -> set[Line]:
    assert credit_normal or not (pending_debit or pending_credit)  # no hold of the example touches an asset
    found: set[Line] = set()
    if amount:
        side = () if not balance else ("Cr",) if balance > 0 else ("Dr",)
        found.add(("cr" if amount > 0 else "dr", code, abs(amount), abs(balance), *side))
    if pending_debit:
        found.add(("held", code, pending_debit, balance - pending_debits, "available"))
    if pending_credit:
        found.add(("due", code, pending_credit, pending_credits, "due"))
    return found


async def closing(conn: Connection) -> set[Line]:
    """All balances but those at zero: account, kind, debit side, credit side."""
    return {
        (row["code"], row["kind"], max(row["balance"], Decimal(0)), max(-row["balance"], Decimal(0)))
        for row in await conn.raw.fetch(CLOSING)
        if row["balance"]
    }


async def read(conn: Connection, codes: set[str]) -> list[Line]:
    """Accounts as their owners read them."""
    found: list[Line] = []
    for code in codes:
        account = accounts.of(code, CURRENCY)
        for entry in await balances.entries(conn, account, before=datetime.max.replace(tzinfo=UTC), limit=100):
            amounts = (entry.amount, entry.held, entry.balance_after)
            found.append((code, entry.sequence, *(f"{amount.amount:f}" for amount in amounts)))
    return sorted(found)


def test_the_readme_shows_the_chart() -> None:
    shown = [tuple(cell.strip().strip("`") for cell in row) for row in table("code")]
    limits = {None: "none", Decimal(0): "0"}
    assert shown == [
        (
            line.pattern,
            line.kind,
            "credit" if line.kind in accounts.CREDIT_NORMAL else "debit",
            limits[line.floor],
            limits[line.ceiling],
            str(line.stripes),
            line.meaning,
        )
        for line in accounts.CHART
    ]


def test_the_readme_names_every_recipe() -> None:
    named = {cell for row in table("recipe") for cell in re.findall(r"`(\w+\.\w+)`", row[0])}
    published = {
        f"{name}.{recipe}"
        for name, module in MODULES.items()
        for recipe, function in vars(module).items()
        if callable(function) and getattr(function, "__module__", "") == module.__name__ and recipe[0] != "_"
    }
    assert named == published - {"recipes.posting"}


def table(first: str) -> list[list[str]]:
    """The rows of the README's table whose first heading this is."""
    (body,) = re.findall(rf"^\| {first} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    return [row.strip("|").split("|") for row in body.splitlines()]
