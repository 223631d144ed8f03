"""Groups of commands that work on the database: one parser for each, one pool, and a fault as one line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from contracts.errors import AppError
from matchday import config
from storage.db import Database

# `arguments.config` is the configuration of the process.
Run = Callable[[Database, argparse.Namespace], Awaitable[None]]
Command = Callable[[str, Run, str], argparse.ArgumentParser]

PATIENCE_S = 600.0  # a person waits, and may ask about years


def add_group(commands: Any, group: str, help: str, *, as_owner: bool = False) -> Command:
    """Add a group to the command line's. Returns what adds a command to it: by name, what it runs, and help.

    `as_owner`: with the rights of whoever owns the tables.
    """
    own = commands.add_parser(group, help=help, description=help).add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = own.add_parser(name, help=help, description=help)
        added.set_defaults(run=lambda arguments: _execute(run, arguments, f"matchday-{group}", as_owner=as_owner))
        return added

    return command


def say(text: str) -> None:
    """One line for the person who asked."""
    sys.stdout.write(text + "\n")


def _execute(run: Run, arguments: argparse.Namespace, name: str, *, as_owner: bool) -> None:
    arguments.config = config.read(os.environ)
    dsn = arguments.config.database_owner_url if as_owner else arguments.config.database_url
    try:
        asyncio.run(_connected(run, arguments, dsn, name))
    except AppError as fault:
        sys.exit(f"matchday: {fault.title}" + (f": {fault}" if str(fault) else ""))
    except (OSError, ValueError) as fault:
        sys.exit(f"matchday: {fault}")


async def _connected(run: Run, arguments: argparse.Namespace, dsn: str, name: str) -> None:
    database = Database(dsn, pool_max=2, statement_timeout_s=PATIENCE_S, application_name=name)
    await database.connect()
    try:
        await run(database, arguments)
    finally:
        await database.disconnect()
