"""The processes of the fan-out bench: `python -m tests.bench.fanout_node serve|plain|relay|publish DSN REDIS_URL`.

`serve` is a web process with `Realtime`, as `matchday serve` has it, without the rest of the API; `plain` is what one
writes on aiohttp in an afternoon: a set of sockets and `send_str` for each. `publish` commits events on a schedule that
does not wait for anybody. Each says on its standard output when it is ready, and where.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from aiohttp import WSMsgType, web
from prometheus_client import REGISTRY

from contracts import ids
from contracts.principal import Principal
from storage import redis as storage_redis
from storage.db import Database
from streams import outbox
from streams.options import StreamOptions
from streams.realtime import Realtime
from streams.relay import Relay

ROOM = "activity:bench"
SECRET = "bench-secret-that-is-long-enough-for-a-cursor"
PUBLISHERS = 8
INSERT = "INSERT INTO outbox (event_id, type, subject, channels, data, happened_at) VALUES ($1, $2, $3, $4, $5, now())"


class Rights:
    """Everybody may read what is asked for."""

    def default_channels(self, user_id: str) -> frozenset[str]:
        return frozenset({f"user:{user_id}"})

    async def readable_among(self, asked: Collection[tuple[str, str]]) -> Collection[tuple[str, str]]:
        return asked

    def is_withdrawable(self, channel: str) -> bool:
        return False

    def presence(self, channel: str) -> None:
        return None


async def authenticate(token: str) -> Principal:
    """A token is the user's id."""
    return Principal(token, f"ses_{token}", frozenset(), datetime.now(UTC) + timedelta(hours=1))


async def none_revoked(sessions: frozenset[str]) -> Collection[str]:
    return ()


async def serve(dsn: str, redis_url: str) -> None:
    """A node; `/stats` tells what it holds and has read."""
    db = Database(dsn)
    await db.connect()
    redis = storage_redis.connect(redis_url)
    realtime = Realtime(
        db, redis, cursor_secrets=[SECRET], authenticate=authenticate, rights=Rights(), revoked_among=none_revoked,
        options=StreamOptions(max_streams_per_user=10_000),
    )  # fmt: skip
    await realtime.start()

    async def sse(request: web.Request) -> web.StreamResponse:
        return await realtime.sse(request, await authenticate(request.query["user"]))

    async def stats(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "rss": _resident_bytes(), "open": realtime.open_streams, "cpu_s": time.process_time(),
                "cursor": realtime.cursor,
                "resume_reads": REGISTRY.get_sample_value("matchday_log_reads_total", {"source": "resume"}) or 0,
                "follow_reads": REGISTRY.get_sample_value("matchday_log_reads_total", {"source": "follow"}) or 0,
            }
        )  # fmt: skip

    await _answer({"/ws": realtime.websocket_handler, "/sse": sse, "/stats": stats})


async def plain(dsn: str, redis_url: str) -> None:
    """Encode once, send to each; the event comes over Redis pub/sub and is kept nowhere."""
    sockets: set[web.WebSocketResponse] = set()
    redis = storage_redis.connect(redis_url)

    async def socket(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        await response.receive()
        await response.send_str(json.dumps({"op": "welcome", "channels": [ROOM]}))
        sockets.add(response)
        async for message in response:
            if message.type is WSMsgType.ERROR:
                break
        sockets.discard(response)
        return response

    async def stats(request: web.Request) -> web.Response:
        return web.json_response({"rss": _resident_bytes(), "open": len(sockets), "cpu_s": time.process_time()})

    async def follow() -> None:
        pubsub = redis.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe("plain")
        async for message in pubsub.listen():
            text = message["data"].decode()
            await asyncio.gather(*(response.send_str(text) for response in sockets))

    following = asyncio.create_task(follow())
    await _answer({"/ws": socket, "/stats": stats})
    await following


async def relay(dsn: str, redis_url: str) -> None:
    """The process that moves committed events to the log."""
    db = Database(dsn)
    await db.connect()
    print(json.dumps({"ready": True}), flush=True)
    await Relay(db, storage_redis.connect(redis_url), StreamOptions()).run()


async def publish(dsn: str, redis_url: str) -> None:
    """For each line {rate, seconds, channels, plain} on standard input: commit so many events a second, and say so."""
    pool = await asyncpg.create_pool(dsn, min_size=PUBLISHERS, max_size=PUBLISHERS)
    redis = storage_redis.connect(redis_url)
    poker = outbox.Poker(redis)

    async def commit(data: dict[str, Any], channel: str) -> None:
        await pool.execute(INSERT, ids.new("evt"), "bench.updated", "bench", [channel], json.dumps(data))
        await poker()

    async def tell(data: dict[str, Any], channel: str) -> None:
        await redis.publish("plain", json.dumps({"op": "event", "event": data}))

    print(json.dumps({"ready": True}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        late_s = await _on_schedule(
            tell if order["plain"] else commit, **{k: order[k] for k in ("rate", "seconds", "channels")}
        )
        print(json.dumps({"late_ms": late_s * 1000}), flush=True)


async def _on_schedule(
    emit: Callable[[dict[str, Any], str], Awaitable[None]], *, rate: float, seconds: float, channels: list[str]
) -> float:
    """Start each event when it is due, whatever became of the others; by how much the last one ended late."""
    begin = time.monotonic() + 0.02
    tasks = []
    for number in range(round(rate * seconds)):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.ensure_future(emit(_data(due, number), channels[number % len(channels)])))
    await asyncio.gather(*tasks)
    return max(0.0, time.monotonic() - begin - seconds)


def _data(due: float, number: int) -> dict[str, Any]:
    """Some 200 bytes; `t` is when it was due, in milliseconds of the machine's monotonic clock."""
    return {
        "t": round(due * 1000, 3), "seq": number, "account_id": 4711, "currency": "INR", "balance": "1000123.45",
        "delta": "-12.50", "transaction_id": "0199b6f0-5a37-7c7e-9d6c-0f3b1d7f2a11",
        "created_at": "2026-01-01T00:00:00.000000Z",
    }  # fmt: skip


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def _answer(routes: dict[str, Any]) -> None:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    roles = {"serve": serve, "plain": plain, "relay": relay, "publish": publish}
    uvloop.run(roles[sys.argv[1]](*sys.argv[2:]))
