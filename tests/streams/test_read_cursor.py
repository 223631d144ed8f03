"""A read tells the cursor from before it, so that everything is in the read or in the replay that begins there.

The flow test tries this on the whole product, as it comes; here a read is held in its middle while others commit, the
relay moves and the hub delivers, in an order that a seed decides.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from contracts.runtime import Call, Reply, RuntimeOptions
from storage.db import Database
from streams import outbox
from streams.relay import Relay
from tests.contract.runtime.harness import BASE, REFUSED, document, json_content, operation, runtime_app, server_of
from tests.streams.harness import Node, People, SseClient, WsClient, reached, signed_up

READS = 25
MOST_STEPS = 3  # of others, before and after what a read looks at
COMMITTED = "SELECT event_id FROM outbox UNION ALL SELECT event_id FROM event_log"


@dataclass
class Others:
    """Everybody else: they commit, they hold transactions open, and sometimes all that is committed has arrived."""

    database: Database
    witness: WsClient  # sees what the hub delivers
    user: str
    pick: random.Random
    committed: set[str] = field(default_factory=set)
    open: list[tuple[asyncio.Event, asyncio.Task[str]]] = field(default_factory=list)

    async def act(self) -> None:
        for _ in range(self.pick.randrange(MOST_STEPS + 1)):
            await self.pick.choice([self._commit, self._begin, self._finish, self._arrive])()

    async def finish(self) -> None:
        while self.open:
            await self._finish()

    async def _commit(self) -> None:
        now = asyncio.Event()
        now.set()
        self.committed.add(await self._change(now))

    async def _begin(self) -> None:
        finish, begun = asyncio.Event(), asyncio.Event()
        self.open.append((finish, asyncio.create_task(self._change(finish, begun))))
        await begun.wait()

    async def _finish(self) -> None:
        if self.open:
            finish, change = self.open.pop(self.pick.randrange(len(self.open)))
            finish.set()
            self.committed.add(await change)

    async def _arrive(self) -> None:
        await reached(lambda: self.committed <= set(self.witness.event_ids), what="every event so far")

    async def _change(self, finish: asyncio.Event, begun: asyncio.Event | None = None) -> str:
        event = signed_up(self.user)
        async with self.database.transaction() as conn:
            await outbox.append(conn, event)
            if begun is not None:
                begun.set()
            await finish.wait()
        return event.id


@pytest.fixture
def seed() -> int:
    chosen = secrets.randbits(32)
    print("seed", chosen)
    return chosen


@pytest.fixture
async def reader(
    database: Database, node: Node, others: Others
) -> AsyncIterator[Callable[[], Awaitable[tuple[set[str], str]]]]:
    """A read over HTTP: what was committed when it looked, and its cursor."""

    async def handler(call: Call) -> Reply:
        await others.act()
        async with database.connection() as conn:
            found = [row["event_id"] for row in await conn.raw.fetch(COMMITTED)]
        await others.act()
        return Reply(200, {"found": found})

    header = {"Realtime-Cursor": {"required": True, "schema": {"type": "string"}}}
    answer: dict[str, Any] = {"description": "Done.", "content": json_content({"type": "object"}), "headers": header}
    contract = document({"/changes": {"get": operation("read", responses={"200": answer, "4XX": REFUSED})}})
    app = runtime_app(contract, handler, options=RuntimeOptions(cursor=lambda: node.realtime.cursor))
    async with TestClient(server_of(app)) as client:

        async def read() -> tuple[set[str], str]:
            response = await client.get(f"{BASE}/changes")
            assert response.status == 200
            return set((await response.json())["found"]), response.headers["Realtime-Cursor"]

        yield read


@pytest.fixture
async def token_of(people: People) -> tuple[str, str]:
    token, principal = people.sign_in()
    return token, principal.user_id


@pytest.fixture
async def others(
    database: Database, node: Node, relay: Relay, token_of: tuple[str, str], seed: int
) -> AsyncIterator[Others]:
    witness = await WsClient.open(node, token_of[0])
    others = Others(database, witness, token_of[1], random.Random(seed))
    yield others
    await others.finish()
    await witness.close()


async def test_nothing_is_missing_from_a_read_and_its_replay(
    node: Node, others: Others, reader: Callable[[], Awaitable[tuple[set[str], str]]], token_of: tuple[str, str]
) -> None:
    reads = []
    for _ in range(READS):
        await others.act()
        reads.append(await reader())
    await others.finish()
    await reached(lambda: others.committed <= set(others.witness.event_ids), what="every event")

    for found, cursor in reads:
        stream = await SseClient.open(node, token_of[0], last_event_id=cursor)
        assert stream.first["recovered"] is True
        await reached(lambda stream=stream: len(stream.events) >= stream.first["count"], what="the replay")
        assert found | set(stream.event_ids) == others.committed
        await stream.close()
        await reached(lambda: node.realtime.open_streams == 1, what="the witness alone")
    assert any(found != others.committed for found, _ in reads)
