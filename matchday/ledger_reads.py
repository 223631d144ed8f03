"""`matchday ledger balance | statement | trial-balance | tree | find`: what the books say, and said."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from contracts.money import Money
from ledger import accounts, balances, documents, lookup, pdf, statements, trial
from ledger.accounts import Account
from ledger.lookup import Whole
from ledger.reading import NEWEST
from ledger.statements import Period
from matchday.commands import Command, say
from storage.db import Connection, Database


def add(command: Command) -> None:
    """Add the commands that read."""
    shown = _of_account(command("balance", _balance, "the balance of an account, now or at an instant"))
    shown.add_argument("--recorded", type=_instant, default=NEWEST, metavar="INSTANT", help="as recorded until then")
    shown.add_argument(
        "--happened", type=_instant, default=NEWEST, metavar="INSTANT", help="as far as happened by then"
    )
    stated = _of_account(command("statement", _statement, "every entry of a period between two balances"))
    stated.add_argument("--from", dest="first", type=_day, required=True, metavar="DAY", help="in India")
    stated.add_argument("--to", dest="last", type=_day, required=True, metavar="DAY", help="included")
    stated.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .csv or .pdf")
    balanced = command("trial-balance", _trial_balance, "debit and credit balances of all accounts, and their sums")
    balanced.add_argument(
        "--segments", type=int, help="one line for codes that begin alike; 1 for the kinds of account"
    )
    drawn = command("tree", _tree, "what the accounts of a code hold together, and level by level")
    drawn.add_argument("code", nargs="?", default="", help="all accounts without")
    drawn.add_argument("--levels", type=int, default=1)
    for parser in (balanced, drawn):
        parser.add_argument("--at", type=_instant, default=NEWEST, metavar="INSTANT", help="as recorded until then")
    found = command("find", _find, "transactions, whole, newest first")
    found.add_argument("--limit", type=int, default=20)
    wanted = found.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--id", help="txn_…")
    wanted.add_argument("--key", help="of the posting")
    wanted.add_argument("--reference")
    wanted.add_argument("--metadata", type=_pair, nargs="+", metavar="NAME=VALUE", help="all of these")


def _of_account(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("account", help="its code, as wallet:usr_…")
    parser.add_argument("--currency", default="INR")
    return parser


async def _balance(db: Database, arguments: argparse.Namespace) -> None:
    async with db.connection() as conn:
        found = await balances.balance_at(
            conn, _account(arguments), recorded=arguments.recorded, happened=arguments.happened
        )
    for name in ("posted", "held", "available", "pending"):
        say(f"{name:<10}{pdf.money(getattr(found, name).amount, arguments.currency):>20}")
    say(f"{'entries':<10}{found.sequence:>20}")
    say(f"{'status':<10}{found.status:>20}")


async def _statement(db: Database, arguments: argparse.Namespace) -> None:
    if arguments.first > arguments.last:
        raise ValueError("the first day is after the last")
    if arguments.out.suffix not in (".csv", ".pdf"):
        raise ValueError("a statement is a .csv or a .pdf")
    async with db.connection() as conn:
        head = await statements.statement(conn, _account(arguments), Period(arguments.first, arguments.last))
    with arguments.out.open("wb") as out:
        if arguments.out.suffix == ".pdf":
            out.write(await pdf.draw(db, head))
        else:
            async for piece in documents.as_csv(head, statements.every_line(db, head)):
                out.write(piece)
    say(f"{head.count} entries are in {arguments.out}" + ("" if head.complete else "; the period is not over"))


async def _trial_balance(db: Database, arguments: argparse.Namespace) -> None:
    sums: dict[str, list[Decimal]] = {}
    async with db.transaction(readonly=True) as conn:
        async for group in trial.trial_balance(conn, segments=arguments.segments, at=arguments.at):
            say(_sides(group.code, group.currency, group.debit, group.credit))
            total = sums.setdefault(group.currency, [Decimal(0), Decimal(0)])
            total[0] += group.debit
            total[1] += group.credit
    for currency, (debit, credit) in sums.items():
        say(_sides("total", currency, debit, credit))
    if any(debit != credit for debit, credit in sums.values()):
        sys.exit("matchday: the two sides differ")


async def _tree(db: Database, arguments: argparse.Namespace) -> None:
    own = arguments.code.count(":")
    async with db.transaction(readonly=True) as conn:
        nodes = await trial.tree(conn, code=arguments.code, levels=arguments.levels, at=arguments.at)
    for node in nodes:
        depth = node.code.count(":") - own + (1 if node.code and not arguments.code else 0)
        name = "  " * depth + (node.code.rpartition(":")[2] if depth else node.code or "all accounts")
        say(f"{name:<44} {node.kind or 'several':<10} {node.accounts:>9} {_amount(node.balance, node.currency)}")


async def _find(db: Database, arguments: argparse.Namespace) -> None:
    async with db.connection() as conn:
        for transaction in await _found(conn, arguments):
            _show(transaction)


async def _found(conn: Connection, arguments: argparse.Namespace) -> list[Whole]:
    if arguments.reference is not None:
        return await lookup.by_reference(conn, arguments.reference, limit=arguments.limit)
    if arguments.metadata is not None:
        return await lookup.by_metadata(conn, dict(arguments.metadata), limit=arguments.limit)
    one = await (lookup.by_key(conn, arguments.key) if arguments.id is None else lookup.by_id(conn, arguments.id))
    return [one] if one else []


def _show(found: Whole) -> None:
    say(f"{found.transaction_id}  {found.kind}  {found.reference}")
    say(f"  key {found.key}")
    say(f"  happened {found.happened_at.isoformat()}, recorded {found.recorded_at.isoformat()}")
    if found.metadata:
        say(f"  metadata {json.dumps(found.metadata, ensure_ascii=False, sort_keys=True)}")
    for link, other in (("reverses", found.reverses), ("reversed by", found.reversed_by)):
        if other:
            say(f"  {link} {other}")
    if found.hold:
        say(
            f"  hold {found.hold.hold_id} from {found.hold_source} to {found.hold_target}: {found.hold.amount.wire()}, "
            f"captured {found.hold.captured.wire()}, released {found.hold.released.wire()}, "
            f"left {found.hold.left.wire()} until {found.hold.expires_at.isoformat()}"
        )
    if found.archived:
        say("  its entries are archived")
    for line in found.lines:
        say(f"  {_sides(line.account, line.currency, line.amount, line.balance_after)}")
        if line.moves_pending:
            say(f"    pending debit {line.pending_debit:+}, pending credit {line.pending_credit:+}")


def _sides(name: str, currency: str, first: Decimal, second: Decimal) -> str:
    return f"{name:<56} {_amount(first, currency)} {_amount(second, currency)[len(currency) :]}"


def _amount(amount: Decimal, currency: str) -> str:
    return f"{currency} {Money(amount, currency).wire():>18}"


def _account(arguments: argparse.Namespace) -> Account:
    return accounts.of(arguments.account, arguments.currency)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a day is written as 2026-11-22") from None


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError("an instant is written with its offset, as 2026-11-22T10:15:30+05:30")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError("a member of the metadata is written as NAME=VALUE")
    return name, value
