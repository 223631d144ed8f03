"""kill -9, freezes and a failing network while events flow: every client's list has to equal the log after it.

FUZZ_EVENTS says how many events are committed at least, FUZZ_SEED which faults come when. Every kind of fault comes once
before any comes again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from storage import redis as storage_redis
from streams.cursor import CursorCodec
from streams.log import LogEntry
from tests.conftest import server_folder
from tests.streams.harness import SECRETS, reached
from tests.streams.kill_rig import NODES, RELAYS, Rig, open_rig
from tests.streams.reader import Got, Reader, Transport
from tests.streams.roles import LEASE_S, NODE_OPTIONS

EVENTS = int(os.environ.get("FUZZ_EVENTS", "6000"))
RATE = 500  # events a second
CLIENTS = 30
TRANSPORTS: tuple[Transport, ...] = ("websocket", "sse", "websocket", "sse", "poll")
BACK_S = 30.0  # for every client to get what was committed after a fault
OVERLAPPING = 0.2  # the share of faults that the next one does not wait for
FREEZE_S = LEASE_S + 1.0


class Killer:
    """Brings one fault after another over the rig, and measures how long until every client is served again."""

    def __init__(self, rig: Rig, readers: list[Reader], dice: random.Random) -> None:
        self._rig = rig
        self._readers = readers
        self._dice = dice
        self.done: Counter[str] = Counter()
        self.back_s: dict[str, float] = defaultdict(float)
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill leading relay": self._kill_leader,
            "freeze leading relay": self._freeze_leader,
            "kill node": self._kill_node,
            "freeze node": self._freeze_node,
            "kill writer": self._kill_writer,
            "kill PostgreSQL": rig.kill_postgres,
            "kill a session of PostgreSQL": self._kill_session,
            "kill Valkey, back empty": rig.kill_valkey,
            "CLIENT KILL TYPE pubsub": self._kill_subscribers,
            "cut clients": self._cut_clients,
            **{f"stall {name}": self._stalling(name) for name in rig.links},
            **{f"lose {name}": self._losing(name) for name in rig.links},
        }

    async def run(self, events: int) -> None:
        """Until so many events are committed, and every kind of fault came."""
        bag: list[str] = []
        while self._rig.committed < events or bag or not self.done:
            bag = bag or self._dice.sample(sorted(self._kinds), len(self._kinds))
            kind = bag.pop()
            await asyncio.sleep(self._dice.uniform(0, 0.3))  # at a moment that nobody chose
            await self._kinds[kind]()
            self.done[kind] += 1
            if self._dice.random() >= OVERLAPPING:
                await self.everybody_is_served(kind)

    async def everybody_is_served(self, after: str) -> None:
        """Wait until every client has got something that was committed from now on."""
        began_at = time.monotonic()
        now = time.time_ns() // 1000

        def late() -> list[int]:
            return [n for n, reader in enumerate(self._readers) if reader.newest_sequence <= now]

        while late():
            assert time.monotonic() < began_at + BACK_S, f"not served after: {after}; clients {late()}"
            await asyncio.sleep(0.01)
        self.back_s[after] = max(self.back_s[after], time.monotonic() - began_at)

    async def _kill_leader(self) -> None:
        (await self._rig.leader() or self._rig.processes[self._dice.choice(RELAYS)]).kill()

    async def _freeze_leader(self) -> None:
        relay = await self._rig.leader() or self._rig.processes[self._dice.choice(RELAYS)]
        relay.signal(signal.SIGSTOP)
        await asyncio.sleep(FREEZE_S)
        relay.signal(signal.SIGCONT)

    async def _kill_node(self) -> None:
        self._rig.processes[self._dice.choice(NODES)].kill()

    async def _freeze_node(self) -> None:
        node = self._rig.processes[self._dice.choice(NODES)]
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(self._dice.uniform(0.2, self._dice.choice((1.0, FREEZE_S))))
        node.signal(signal.SIGCONT)

    async def _kill_writer(self) -> None:
        self._rig.processes["writer"].kill()

    async def _kill_session(self) -> None:
        self._rig.kill_session()

    async def _kill_subscribers(self) -> None:
        redis = storage_redis.connect(self._rig.valkey.url)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await redis.aclose()

    async def _cut_clients(self) -> None:
        for name in NODES:
            self._rig.links[f"clients to {name}"].cut(self._dice, 0.4)

    def _stalling(self, name: str) -> Callable[[], Awaitable[None]]:
        async def stall() -> None:
            link = self._rig.links[name]
            link.stall()
            await asyncio.sleep(self._dice.uniform(0.2, self._dice.choice((1.0, FREEZE_S))))
            if self._dice.random() < 0.5:
                link.cut(self._dice)
            link.flow()

        return stall

    def _losing(self, name: str) -> Callable[[], Awaitable[None]]:
        async def lose() -> None:
            self._rig.links[name].lose(self._dice)

        return lose


@asynccontextmanager
async def crowd(rig: Rig, dice: random.Random) -> AsyncIterator[list[Reader]]:
    """Clients on both transports, each with channels of its own choice, for the length of the block."""
    cursors = CursorCodec(SECRETS)
    readers = [
        Reader(
            TRANSPORTS[n % len(TRANSPORTS)], frozenset(dice.sample(rig.channels, dice.randint(1, 4))), rig.addresses,
            cursors=cursors, load=rig.log, dice=random.Random(dice.getrandbits(32)), window=NODE_OPTIONS.replay_window,
        )
        for n in range(CLIENTS)
    ]  # fmt: skip
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


async def test_every_client_gets_the_log_through_every_failure(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(2**32)
    dice = random.Random(seed)
    with capsys.disabled():
        print(f"\nseed {seed}")
    with server_folder() as folder:
        async with open_rig(folder, dice, rate=RATE) as rig:
            began_at = time.monotonic()
            async with crowd(rig, dice) as readers:
                killer = Killer(rig, readers, dice)
                await killer.everybody_is_served("start")
                await killer.run(EVENTS)
                await killer.everybody_is_served("end")
                await rig.finish()
                log = await rig.log()
                owed = [[entry for entry in log if reader.channels & set(entry.channels)] for reader in readers]
                with capsys.disabled():
                    print(summary(rig, killer, readers, time.monotonic() - began_at))
                await reached(lambda: all(len(r.got) >= len(o) for r, o in zip(readers, owed, strict=True)))
            for reader, entries in zip(readers, owed, strict=True):
                assert reader.faults == []
                assert reader.got == [Got.logged(entry) for entry in entries]
            agree(rig, log)
            assert rig.complaints() == []


def agree(rig: Rig, log: list[LogEntry]) -> None:
    """The log holds what the writer was told is committed, whole and in order, and nothing that it took back."""
    assert [entry.position for entry in log] == list(range(1, len(log) + 1))
    at = {entry.event_id: entry.position for entry in log}
    assert len(at) == len(log)
    asked = {line["tx"]: line for line in rig.written("asked")}
    committed = {line["tx"] for line in rig.written("committed")}
    refused = [event for line in rig.written("rolled_back") for event in line["events"]]
    assert committed
    assert refused
    assert at.keys().isdisjoint(refused)
    assert at.keys() <= {event for line in asked.values() for event in line["events"]}
    versions: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for key, line in asked.items():
        positions = [at[event] for event in line["events"] if event in at]
        assert len(positions) in ({len(line["events"])} if key in committed else {0, len(line["events"])})
        assert positions == sorted(positions)
        if line["version"] is not None and positions:
            versions[line["user"]].append((line["version"], positions[0], positions[-1]))
    for of_user in map(sorted, versions.values()):
        assert all(earlier[2] < later[1] for earlier, later in pairwise(of_user))


def summary(rig: Rig, killer: Killer, readers: list[Reader], seconds: float) -> str:
    """What happened, for people."""
    ends = {what: len(rig.written(what)) for what in ("committed", "rolled_back", "failed", "unknown")}
    lines = [
        f"{rig.committed} events, {killer.done.total()} faults, {len(readers)} clients, {seconds:.0f} s",
        f"transactions: {', '.join(f'{what} {count}' for what, count in ends.items())}",
    ]
    for transport in sorted(set(TRANSPORTS)):
        total: Counter[str] = Counter()
        for reader in readers:
            if reader.transport == transport:
                total += reader.count
        lines.append(f"{transport}: {', '.join(f'{name} {count}' for name, count in sorted(total.items()))}")
    lines += [f"  {kind}: {n}, served again within {killer.back_s[kind]:.1f} s" for kind, n in killer.done.items()]
    return "\n".join(lines)
