"""`matchday channels grant | withdraw | list`: who is a member of a channel, such as a desk of the back office."""

from __future__ import annotations

import argparse
from typing import Any

from handlers.identity import store as identity
from handlers.realtime import members
from matchday.commands import add_group, say
from storage.db import Database


def add(commands: Any) -> None:
    """Add `channels` with its own commands to the command line's."""
    command = add_group(commands, "channels", "who is a member of a channel: grant, withdraw, list")
    for name, run, text in (
        ("grant", _grant, "make a user a member"),
        ("withdraw", _withdraw, "end a membership; open streams lose the channel within two seconds"),
    ):
        changed = command(name, run, text)
        changed.add_argument("channel", help="as back_office:support")
        changed.add_argument("user", help="usr_…")
    listed = command("list", _list, "the members of a channel, or the channels of a user")
    listed.add_argument("about", metavar="CHANNEL|USER")


async def _grant(db: Database, arguments: argparse.Namespace) -> None:
    async with db.transaction() as conn:
        if await identity.find_user(conn, arguments.user) is None:
            raise ValueError(f"there is no user {arguments.user}")
        new = await members.grant(conn, arguments.channel, arguments.user)
    say(f"{arguments.user} {'is now' if new else 'was already'} a member of {arguments.channel}")


async def _withdraw(db: Database, arguments: argparse.Namespace) -> None:
    async with db.transaction() as conn:
        ended = await members.withdraw(conn, arguments.channel, arguments.user)
    say(f"{arguments.user} {'is no longer' if ended else 'was not'} a member of {arguments.channel}")


async def _list(db: Database, arguments: argparse.Namespace) -> None:
    async with db.connection() as conn:
        if ":" in arguments.about:
            told = [(row["user_id"], row["granted_at"]) for row in await members.of_channel(conn, arguments.about)]
        else:
            told = [(row["channel"], row["granted_at"]) for row in await members.of_user(conn, arguments.about)]
    for name, granted_at in told:
        say(f"{name}  since {granted_at:%Y-%m-%d %H:%M}")
