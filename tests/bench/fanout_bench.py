"""Events to many clients: `python -m tests.bench.fanout_bench [--subscribers N] [--rounds N] [--seconds S] [--only NAME …]`.

One serving process, one relay, a publisher that commits every event, a meter; PostgreSQL and Valkey from wheels at their
defaults; two cores for all of it. The yardstick is a plain WebSocket loop on aiohttp, fed over Redis pub/sub, that keeps
nothing. A rate is sustained when every event arrived everywhere and the slowest hundredth took 100 ms at most from when
it was due. Rates rise step by step, the sides in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.migrations import migrate
from tests.bench.fanout_meter import Counted, Meter
from tests.bench.fanout_node import ROOM

SLO_MS = 100
RATES = (100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000)
FAILURES = 2  # steps in a row that end the climb
PEOPLE = 2000
EVENTS_PER_S = 1000
STALLED_KIB = 3072


@dataclass
class Servers:
    """What all sides share."""

    dsn: str
    redis_url: str

    @contextmanager
    def process(self, role: str) -> Iterator[Process]:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.fanout_node", role, self.dsn, self.redis_url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield Process(child)
        finally:
            child.kill()
            child.wait()


class Process:
    """A process of the bench, which has said that it is ready."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.port: int = self.listen().get("port", 0)

    def say(self, **order: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def listen(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        heard: dict[str, Any] = json.loads(self._child.stdout.readline())
        return heard

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


@dataclass
class Side:
    """One way of telling events, and how it did, round by round."""

    name: str
    role: str
    sse: bool = False
    sustained: list[float] = field(default_factory=list)
    best: list[Counted] = field(default_factory=list)

    def open(self, meter: Meter, port: int, number: int) -> None:
        opening = meter.events if self.sse else meter.websocket
        opening(port, user=f"u{number}", channels=[ROOM])


def climb(side: Side, servers: Servers, publisher: Process, *, subscribers: int, seconds: float) -> None:
    """Raise the rate until it is not sustained any more."""
    with servers.process(side.role) as node:
        meter = Meter()
        for number in range(subscribers):
            side.open(meter, node.port, number)
        reached, best, failed = 0.0, None, 0
        for rate in RATES:
            expected = round(rate * seconds) * subscribers
            before = node.stats()["cpu_s"]
            publisher.say(rate=rate, seconds=seconds, channels=[ROOM], plain=side.role == "plain")
            counted = meter.count(expected, within_s=seconds + 1)
            publisher.listen()
            cpu_us = (node.stats()["cpu_s"] - before) / max(counted.events, 1) * 1e6
            kept = counted.events == expected and counted.p99_ms <= SLO_MS
            print(
                f"  {side.name:24} {rate * subscribers:>9,}/s  p50 {counted.p50_ms:6.1f}  p99 {counted.p99_ms:7.1f} ms  "
                f"{counted.events / max(counted.reads, 1):4.1f} events a read  {cpu_us:4.1f} µs  {'' if kept else 'not '}sustained",
                flush=True,
            )  # fmt: skip
            if kept:
                reached, best, failed = rate * subscribers, counted, 0
            else:
                failed += 1
                meter.count(expected - counted.events, within_s=10)
                if failed == FAILURES:
                    break
        meter.close()
    side.sustained.append(reached)
    if best is not None:
        side.best.append(best)


def fan_out(servers: Servers, arguments: argparse.Namespace) -> None:
    """Deliveries a second to all subscribers of one channel."""
    sides = [Side("plain aiohttp WebSocket", "plain"), Side("WebSocket", "serve"), Side("SSE", "serve", sse=True)]
    with servers.process("publish") as publisher:
        for number in range(arguments.rounds):
            print(f"round {number + 1}", flush=True)
            for side in sides:
                climb(side, servers, publisher, subscribers=arguments.subscribers, seconds=arguments.seconds)
    base = sides[0].sustained
    print(
        f"\n| deliveries to {arguments.subscribers} subscribers of one channel | a second, sustained | ÷ plain aiohttp |"
    )
    print("|---|---:|---:|")
    for side in sides:
        ratios = [ours / theirs if theirs else float("nan") for ours, theirs in zip(side.sustained, base, strict=True)]
        print(
            f"| {side.name} | {statistics.median(side.sustained):,.0f} ({min(side.sustained):,.0f}–"
            f"{max(side.sustained):,.0f}) | {statistics.median(ratios):.2f} |"
        )


def latency(servers: Servers, arguments: argparse.Namespace) -> None:
    """From commit to client: 1,000 events a second, each for one of 2,000 people."""
    print(
        "\n| from when an event was to be committed to its client | p50 ms | p99 ms | to reach |\n|---|---:|---:|---:|"
    )
    for sse in (False, True):
        with servers.process("serve") as node, servers.process("publish") as publisher:
            meter = Meter()
            names = [f"p{number}" for number in range(PEOPLE)]
            for name in names:
                (meter.events if sse else meter.websocket)(node.port, user=name, channels=[f"user:{name}"])
            counted: list[Counted] = []
            for _ in range(arguments.rounds + 1):
                channels = [f"user:{name}" for name in names]
                publisher.say(rate=EVENTS_PER_S, seconds=arguments.seconds, channels=channels, plain=False)
                expected = round(EVENTS_PER_S * arguments.seconds)
                counted.append(meter.count(expected, within_s=arguments.seconds + 5))
                assert counted[-1].events == expected, f"{counted[-1].events} of {expected} events arrived"
                publisher.listen()
            meter.close()
        rounds = counted[1:]
        p50, p99 = (statistics.median(getattr(one, name) for one in rounds) for name in ("p50_ms", "p99_ms"))
        spread = f"{min(one.p99_ms for one in rounds):.1f}–{max(one.p99_ms for one in rounds):.1f}"
        print(f"| {'SSE' if sse else 'WebSocket'} | {p50:.1f} | {p99:.1f} ({spread}) | ≤ 50 |", flush=True)


def memory(servers: Servers, arguments: argparse.Namespace) -> None:
    """What an idle connection holds."""
    print("\n| memory of an idle connection | KB | to reach |\n|---|---:|---:|")
    for sse in (False, True):
        with servers.process("serve") as node:
            warm, meter = Meter(), Meter()
            opening = "events" if sse else "websocket"
            for number in range(100):
                getattr(warm, opening)(node.port, user=f"w{number}", channels=[f"user:w{number}"])
            before = node.stats()
            for number in range(PEOPLE):
                getattr(meter, opening)(node.port, user=f"p{number}", channels=[f"user:p{number}", f"wallet:p{number}"])
            after = node.stats()
            assert after["open"] == before["open"] + PEOPLE
            for one in (warm, meter):
                one.close()
        size = (after["rss"] - before["rss"]) / PEOPLE / 1000
        print(f"| {'SSE' if sse else 'WebSocket'}, of {PEOPLE:,} | {size:.1f} | ≤ 40 |", flush=True)


def storm(servers: Servers, arguments: argparse.Namespace) -> None:
    """2,000 clients come back at once, with cursors that memory does not reach back to."""
    import asyncio  # only here: everything else of this bench blocks

    import aiohttp

    names = [f"p{number}" for number in range(PEOPLE)]
    channels = [f"user:{name}" for name in names]

    async def come_back(port: int, cursor: str) -> int:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(name: str) -> bool:
                async with session.ws_connect(f"http://127.0.0.1:{port}/ws", max_msg_size=0) as socket:
                    await socket.send_json(
                        {"op": "connect", "token": name, "channels": [f"user:{name}"], "cursor": cursor}
                    )
                    welcome = await socket.receive_json()
                    events = [await socket.receive_json() for _ in range(welcome.get("count", 0))]
                    return bool(welcome["recovered"]) and len(events) == welcome["count"] > 0

            return sum(await asyncio.gather(*(one(name) for name in names)))

    with servers.process("serve") as node, servers.process("publish") as publisher:
        cursor = node.stats()["cursor"]
        publisher.say(rate=1500, seconds=4 * PEOPLE / 1500, channels=channels, plain=False)
        publisher.listen()
        before, cpu = _settled(node), time.monotonic()
        recovered = asyncio.run(come_back(node.port, cursor))
        took, after = time.monotonic() - cpu, node.stats()
    assert recovered == PEOPLE, f"{recovered} of {PEOPLE} recovered"
    reads = after["resume_reads"] - before["resume_reads"]
    print(f"\n| {PEOPLE:,} clients come back, {4 * PEOPLE:,} events later | | to reach |\n|---|---:|---:|")
    print(
        f"| reads of the log for them | {reads:.0f} | ≤ 20 |\n| seconds until all had what they missed | {took:.1f} | |"
    )


def _settled(node: Process) -> dict[str, Any]:
    """The node's figures once it has read everything."""
    told = node.stats()
    while (again := _later(node))["cursor"] != told["cursor"]:
        told = again
    return again


def _later(node: Process) -> dict[str, Any]:
    time.sleep(1)
    return node.stats()


def stalled(servers: Servers, arguments: argparse.Namespace) -> None:
    """A client that reads no more, on a busy channel."""
    with servers.process("serve") as node, servers.process("publish") as publisher:
        meter = Meter()
        meter.websocket(node.port, user="sleeper", channels=[ROOM])
        before = node.stats()["rss"]
        publisher.say(rate=1000, seconds=14, channels=[ROOM], plain=False)
        began, most = time.monotonic(), before
        while (told := node.stats())["open"]:
            most = max(most, told["rss"])
            assert time.monotonic() - began < 60, "the stalled client is still there"
            time.sleep(0.1)
        took = time.monotonic() - began
        after = node.stats()["rss"]
        publisher.listen()
        meter.close()
    print("\n| a client that reads nothing while 1,000 events a second come | | to reach |\n|---|---:|---:|")
    print(f"| seconds until it is gone | {took:.1f} | ≤ 12 after it stalls |")
    print(
        f"| MB more than before, at the most / once it is gone | {(most - before) / 1e6:.1f} / {(after - before) / 1e6:.1f} | |"
    )


SCENES: dict[str, Callable[[Servers, argparse.Namespace], None]] = {
    "fanout": fan_out, "latency": latency, "memory": memory, "storm": storm, "stalled": stalled,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", nargs="+", choices=sorted(SCENES), default=list(SCENES))
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="matchday-bench-")))
        folder.chmod(0o755)
        postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        postgres.ensure_database("bench")
        migrate(postgres.dsn("bench"))
        servers = Servers(postgres.dsn("bench"), valkey.url)
        stack.enter_context(servers.process("relay"))
        for name in arguments.only:
            SCENES[name](servers, arguments)


if __name__ == "__main__":
    main()
