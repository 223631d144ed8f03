"""`matchday channels grant | withdraw | list`: who is a member of a channel, such as a desk of the back office."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from contracts.errors import AppError
from handlers.identity import store as identity
from handlers.realtime import members
from matchday import config
from storage.db import Connection, Database

Run = Callable[[Connection, argparse.Namespace], Awaitable[None]]


def add(commands: Any) -> None:
    """Add `channels` with its own commands to the command line's."""
    text = "who is a member of a channel: grant, withdraw, list"
    parser = commands.add_parser("channels", help=text, description=text)
    own = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = own.add_parser(name, help=help, description=help)
        added.set_defaults(run=lambda arguments: _execute(run, arguments))
        return added

    for name, run, text in (
        ("grant", _grant, "make a user a member"),
        ("withdraw", _withdraw, "end a membership; open streams lose the channel within two seconds"),
    ):
        changed = command(name, run, text)
        changed.add_argument("channel", help="as back_office:support")
        changed.add_argument("user", help="usr_…")
    listed = command("list", _list, "the members of a channel, or the channels of a user")
    listed.add_argument("about", metavar="CHANNEL|USER")


def _execute(run: Run, arguments: argparse.Namespace) -> None:
    try:
        asyncio.run(_in_transaction(run, arguments))
    except AppError as fault:
        sys.exit(f"matchday: {fault.title}")
    except (OSError, ValueError) as fault:
        sys.exit(f"matchday: {fault}")


async def _in_transaction(run: Run, arguments: argparse.Namespace) -> None:
    database = Database(config.read(os.environ).database_url, pool_max=1, application_name="matchday-channels")
    await database.connect()
    try:
        async with database.transaction() as conn:
            await run(conn, arguments)
    finally:
        await database.disconnect()


async def _grant(conn: Connection, arguments: argparse.Namespace) -> None:
    if await identity.find_user(conn, arguments.user) is None:
        raise ValueError(f"there is no user {arguments.user}")
    new = await members.grant(conn, arguments.channel, arguments.user)
    _say(f"{arguments.user} {'is now' if new else 'was already'} a member of {arguments.channel}")


async def _withdraw(conn: Connection, arguments: argparse.Namespace) -> None:
    ended = await members.withdraw(conn, arguments.channel, arguments.user)
    _say(f"{arguments.user} {'is no longer' if ended else 'was not'} a member of {arguments.channel}")


async def _list(conn: Connection, arguments: argparse.Namespace) -> None:
    if ":" in arguments.about:
        for row in await members.of_channel(conn, arguments.about):
            _say(f"{row['user_id']}  since {row['granted_at']:%Y-%m-%d %H:%M}")
    else:
        for row in await members.of_user(conn, arguments.about):
            _say(f"{row['channel']}  since {row['granted_at']:%Y-%m-%d %H:%M}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
