"""`matchday ledger …`: what operators and auditors ask of the books."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ledger import anchors, archive, chain
from ledger.journal import Q
from ledger.sweeps import audit
from ledger.verify import verify
from matchday import ledger_reads
from matchday.commands import add_group, say
from storage.db import Database

STATUSES = {"freeze": "frozen", "thaw": "open", "close": "closed"}
SNAPSHOT: dict[str, Any] = {"isolation": "repeatable_read", "readonly": True}


def add(commands: Any) -> None:
    """Add `ledger` with its own commands to the command line's."""
    # Months come and go by the hand of whoever owns the tables.
    text = "the books: read, verify, check, seal, anchor, archive, freeze"
    command = add_group(commands, "ledger", text, as_owner=True)
    checked = command("verify", _verify, "hash everything again and name what is not as it was sealed")
    checked.add_argument("--anchors", type=Path, metavar="FILE", help="heads that were written down; without: ours")
    checked.add_argument("--public-key", type=Path, metavar="PEM", help="the key that signed them; without: ours")
    checked.add_argument("--since", type=_day, metavar="DAY", help="hash again only what was sealed from this day on")
    command("check", _check, "recompute every invariant and name those that are broken")
    command("seal", _seal, "seal what was posted")
    command("anchor", _anchor, "write the heads of the chain down outside the database")
    command("months", _months, "list the months that are here and those that were archived")
    archived = command("archive", _archive, "move an old month into a file")
    archived.add_argument("month", type=_month, help="YYYY-MM")
    archived.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    restored = command("restore", _restore, "bring a month back from its file")
    restored.add_argument("month", type=_month, help="YYYY-MM")
    restored.add_argument("file", type=Path)
    for name, status in STATUSES.items():
        changed = command(name, _change, f"make an account {status}")
        changed.add_argument("account", help="its code, as wallet:usr_…")
        changed.add_argument("--currency", default="INR")
        changed.add_argument("--actor", required=True, type=_up_to(100), help="who wants it")
        changed.add_argument("--reason", required=True, type=_up_to(500))
        changed.set_defaults(status=status)
    ledger_reads.add(command)


async def _verify(db: Database, arguments: argparse.Namespace) -> None:
    file = arguments.anchors or (arguments.config.anchor_file if arguments.config.anchor_file.exists() else None)
    pem = arguments.public_key.read_text("ascii") if arguments.public_key else arguments.config.anchor_key
    heads: dict[tuple[int, int], bytes] = {}
    findings: list[str] = []
    if file is not None:
        if pem is None:
            raise ValueError("anchors need --public-key or LEDGER_ANCHOR_KEY_FILE")
        heads, findings = await asyncio.to_thread(anchors.read, file, anchors.public_key(pem))
    began = time.monotonic()
    async with db.transaction(**SNAPSHOT) as conn:
        report = await verify(conn, anchored=heads, since=arguments.since)
    rate = report.transactions / max(time.monotonic() - began, 0.001)
    for finding in findings + report.findings:
        say(finding)
    say(
        f"{report.blocks} blocks, {report.transactions} transactions, {rate:.0f} a second; "
        f"{report.waiting} not sealed yet"
    )
    say(f"{len(heads)} anchored heads" if file else "no anchors: a tail that was cut off would not be noticed")
    if report.archived:
        say(f"{report.archived} transactions of archived months were not hashed again")
    if findings or report.findings:
        sys.exit(1)
    say("the books are as they were sealed")


async def _check(db: Database, arguments: argparse.Namespace) -> None:
    async with db.transaction(**SNAPSHOT) as conn:
        found = await audit(conn)
    for violation in found:
        say(violation)
    if found:
        sys.exit(1)
    say("every invariant holds")


async def _seal(db: Database, arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    sealed = await chain.seal(db)
    say(f"{sealed} transactions sealed, {sealed / max(time.monotonic() - began, 0.001):.0f} a second")


async def _anchor(db: Database, arguments: argparse.Namespace) -> None:
    if arguments.config.anchor_key is None:
        raise ValueError("LEDGER_ANCHOR_KEY_FILE must be set")
    number = await anchors.anchor(db, key=arguments.config.anchor_key, file=arguments.config.anchor_file)
    say(f"anchor {number} is in {arguments.config.anchor_file}")


async def _months(db: Database, arguments: argparse.Namespace) -> None:
    async with db.connection() as conn:
        for row in await chain.Q.archived_months(conn):
            say(f"{row['month']:%Y-%m}  archived, {row['entries']} entries, SHA-256 {row['digest'].hex()}")
        for row in await chain.Q.months(conn):
            say(f"{row['month']:%Y-%m}  about {row['entries']} entries, {row['bytes'] / 1e6:.1f} MB")


async def _archive(db: Database, arguments: argparse.Namespace) -> None:
    done = await archive.archive(db, arguments.month, arguments.to, today=datetime.now(UTC).date())
    say(f"{done.entries} entries are in {done.file}, SHA-256 {done.digest.hex()}")


async def _restore(db: Database, arguments: argparse.Namespace) -> None:
    done = await archive.restore(db, arguments.month, arguments.file)
    say(f"{done.entries} entries are back, and they are what was sealed")


async def _change(db: Database, arguments: argparse.Namespace) -> None:
    async with db.transaction() as conn:
        limits = await chain.Q.limits(conn, code=arguments.account, currency=arguments.currency)
        if limits is None:
            raise ValueError(f"there is no account {arguments.account} in {arguments.currency}")
        if arguments.status == "closed" and not limits["closable"]:
            raise ValueError("an account closes at zero, with nothing pending: freeze it, or empty it first")
        change = await Q.change_account(
            conn, code=arguments.account, currency=arguments.currency, status=arguments.status, floor=limits["floor"],
            ceiling=limits["ceiling"], actor=arguments.actor, reason=arguments.reason,
        )  # fmt: skip
    say(f"{arguments.account} is {arguments.status}; change {change}")


def _day(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)


def _month(text: str) -> date:
    return date.fromisoformat(f"{text}-01")


def _up_to(limit: int) -> Callable[[str], str]:
    def text(value: str) -> str:
        if not 1 <= len(value) <= limit:
            raise argparse.ArgumentTypeError(f"takes 1 to {limit} characters")
        return value

    return text
