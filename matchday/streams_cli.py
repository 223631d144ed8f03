"""`matchday events …`: what operators ask of the log and of its readers."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from matchday import wiring
from matchday.commands import add_group, say
from storage.db import Database
from streams import dead_letters, event_counts, log
from streams.log import SHARD, Q
from streams.relay import LOCK_CLASS, WAITING_LIMIT
from streams.replay import send_back

INDIA = ZoneInfo("Asia/Kolkata")
LETTERS = 100


def add(commands: Any) -> None:
    """Add `events` with its own commands to the command line's."""
    command = add_group(commands, "events", "the log of events and its readers: look, replay, retry, count")

    def of_group(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--group", required=True, help="a group of consumers, as `events log` names it")

    command("log", _log, "the log's end, beginning and days, what waits for it, and where each group stands")
    sent_back = command("replay", _replay, "have a group read a part of the log again")
    of_group(sent_back)
    sent_back.add_argument(
        "--from", dest="since", type=_instant_or_beginning, required=True, metavar="INSTANT", help="or `beginning`"
    )
    sent_back.add_argument("--again", action="store_true", help="also handle again what it has handled")
    of_group(command("dead-letters", _dead_letters, "list the events that a group gave up on"))
    retried = command("retry", _retry, "handle a dead letter again")
    retried.add_argument("id", help="as `events dead-letters` names it")
    of_group(command("forget", _forget, "forget a group that reads no more, so that it holds up no cut"))
    counted = command("counts", _counts, "how often what happened on each day in India")
    counted.add_argument("--from", dest="first", type=date.fromisoformat, metavar="DAY", help="without: a week ago")
    counted.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="without: today")


async def _log(db: Database, arguments: argparse.Namespace) -> None:
    async with db.transaction(isolation="repeatable_read", readonly=True) as conn:
        head = await log.head(conn)
        waiting = await Q.count_waiting(conn, shard=SHARD, upto=WAITING_LIMIT)
        leader = await Q.leader_of(conn, lock_class=LOCK_CLASS, shard=SHARD)
        say(f"shard {SHARD}  epoch {head.epoch}")
        say(f"kept {await log.floor(conn)} to {head.position}, {waiting} waiting, leader {leader or 'none'}")
        for row in await Q.list_days(conn, shard=SHARD):
            begun = row["first_position"] is not None
            events = (row["next_position"] or head.position + 1) - row["first_position"] if begun else 0
            say(f"  {row['day']}  {events} events")
        for row in await Q.list_positions(conn, shard=SHARD):
            state = f", tried {row['attempts']} times, again at {row['retry_at']:%H:%M:%S}" if row["attempts"] else ""
            behind = head.position - row["position"]
            say(f"group {row['consumer_group']}  at {row['position']}, {behind} behind{state}")


async def _replay(db: Database, arguments: argparse.Namespace) -> None:
    sent = await send_back(db, arguments.group, since=arguments.since, again=arguments.again)
    if not sent.events:
        say(f"{arguments.group} has not come further than that")
    else:
        say(f"{arguments.group} reads {sent.events} events again; {sent.again} that it had handled count as new")


async def _dead_letters(db: Database, arguments: argparse.Namespace) -> None:
    after = ""
    while True:
        async with db.connection() as conn:
            letters = await dead_letters.waiting(conn, group=arguments.group, limit=LETTERS, after=after)
        for letter in letters:
            entry = letter.entry
            say(f"{letter.id}  {letter.failed_at:%Y-%m-%d %H:%M:%S}  {entry.type} {entry.event_id} {entry.subject}")
            say(f"  tried {letter.attempts} times: {letter.error}")
        if len(letters) < LETTERS:
            return
        after = letters[-1].id


async def _retry(db: Database, arguments: argparse.Namespace) -> None:
    handlers = {consumer.group: consumer.handler for consumer in wiring.CONSUMERS}
    await dead_letters.replay(db, arguments.id, handlers=handlers)
    say(f"{arguments.id} is handled")


async def _forget(db: Database, arguments: argparse.Namespace) -> None:
    async with db.transaction() as conn:
        if await Q.remove_consumer(conn, consumer_group=arguments.group) is None:
            raise ValueError(f"no group {arguments.group} reads the log")
    say(f"{arguments.group} is forgotten; should it run again, it begins at the beginning of the log")


async def _counts(db: Database, arguments: argparse.Namespace) -> None:
    last = arguments.last or datetime.now(INDIA).date()
    first = arguments.first or last - timedelta(days=7)
    async with db.connection() as conn:
        for found in await event_counts.between(conn, first, last):
            say(f"{found.day}  {found.type}  {found.events}")


def _instant_or_beginning(text: str) -> datetime | None:
    if text == "beginning":
        return None
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
