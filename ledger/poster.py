"""The poster: postings that stand alone, gathered into batches while the one before is on its way.

    post ──▶ queue ──▶ one call for half of what waits ──▶ commit ──▶ each caller gets its own result

There is no timer: the first posting leaves at once, of those that come meanwhile half leave together, so that this
process has work while the database has. A hot balance row is locked and written once for a whole batch. Nothing is
answered before it is committed. When an answer of the database is lost, the batch goes again under the same keys, which
finds what was written and writes the rest, until the deadlines of its callers pass; a caller that gave up does the same
later with its key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from contracts.errors import AppError, StorageBusy
from ledger import journal
from ledger.journal import Posted, Posting
from storage.db import Connection, Database

PAUSE_S = 0.05
# A call costs about as much as so many postings in it: less is not worth a call of its own while others wait.
SMALL = 8

# Writes a batch in one statement: its sets, and what their callers gave with them, in the same order.
Results = list[tuple[Posted, ...] | AppError]
Write = Callable[[Connection, Sequence[tuple[Posting, ...]], Sequence[Any]], Awaitable[Results]]


async def post_only(conn: Connection, sets: Sequence[tuple[Posting, ...]], effects: Sequence[Any]) -> Results:
    """Post, and do nothing more."""
    return await journal.post_many(conn, sets)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A linked set and its caller; `alone` when a batch that it was in could not be written."""

    postings: tuple[Posting, ...]
    keys: list[str]
    effect: Any
    result: asyncio.Future[tuple[Posted, ...]]
    alone: bool = False

    def answer(self, result: tuple[Posted, ...] | Exception) -> None:
        """Tell the caller, unless it has given up."""
        if self.result.done():
            return
        if isinstance(result, Exception):
            self.result.set_exception(result)
        else:
            self.result.set_result(result)

    def give_up(self) -> None:
        self.answer(StorageBusy())


class Poster:
    """Posts for everybody in this process; `start` before, `stop` after. Safe to share among tasks."""

    def __init__(
        self,
        db: Database,
        *,
        write: Write = post_only,
        flights: int = 1,
        batch: int = 100,
        queue: int = 2000,
        deadline_s: float = 5.0,
    ) -> None:
        """`flights` batches of at most `batch` linked sets are on their way at once, `queue` sets wait at most, and
        nobody waits longer than `deadline_s`.

        `write` may do more than post, such as tell events, when that is one statement with the posting.
        """
        self._db = db
        self._write = write
        self._flights = flights
        self._batch = batch
        self._limit = queue
        self._deadline_s = deadline_s
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._in_flight: set[str] = set()
        self._free = flights
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin to post."""
        self._workers = [asyncio.create_task(self._work(), name=f"poster-{n}") for n in range(self._flights)]

    async def stop(self) -> None:
        """Take nothing more, post what waits, end."""
        self._stopping = True
        self._wake.set()
        await asyncio.gather(*self._workers)

    async def post(self, *postings: Posting, effect: Any = None) -> tuple[Posted, ...]:
        """Post one posting, or a linked set; return when it is committed.

        `effect` goes to `write` beside the set. Raises `ledger.refusals`, and StorageBusy when the queue is full or the
        deadline passes: whether it was written is then unknown until the caller tries again with the same keys. A
        caller that is cancelled before its set left takes it back.
        """
        if self._stopping or len(self._queue) >= self._limit:
            raise StorageBusy
        loop = asyncio.get_running_loop()
        waiting = _Waiting(postings, [posting.key for posting in postings], effect, loop.create_future())
        self._queue.append(waiting)
        self._wake.set()
        deadline = loop.call_later(self._deadline_s, waiting.give_up)
        try:
            return await waiting.result
        finally:
            deadline.cancel()

    async def _work(self) -> None:
        while batch := await self._next():
            try:
                async with self._db.connection():  # kept while batches follow each other: it costs as much as one
                    while batch:
                        results = await self._db.at_once(partial(self._written, batch))
                        self._landed(batch)
                        for waiting, result in zip(batch, results, strict=True):
                            waiting.answer(result)
                        batch = self._take()
            except StorageBusy:
                self._put_back(batch)
                await asyncio.sleep(PAUSE_S)
            except Exception as fault:
                # One of them is no posting, and takes only itself down: each goes again, alone.
                for waiting in batch:
                    if len(batch) == 1:
                        waiting.answer(fault)
                    waiting.alone = True
                self._put_back(batch)

    async def _next(self) -> list[_Waiting]:
        """The next batch, as soon as there is one; empty when there will be none any more."""
        while not (batch := self._take()):
            if self._stopping and not self._queue:
                break
            self._wake.clear()
            await self._wake.wait()
        return batch

    def _take(self) -> list[_Waiting]:
        # A key that is on its way, or twice in the queue, waits for its turn: then it finds what the first one wrote.
        taken: list[_Waiting] = []
        kept: list[_Waiting] = []
        keys = set(self._in_flight)
        # What waits is shared among the free flights and this process, so that while the database is at one batch this
        # process is at what comes after it. Whoever takes all has both wait for each other in turn.
        share = min(self._batch, max(SMALL, -(-len(self._queue) // (self._free + 1))))
        while self._queue and len(taken) < share:
            waiting = self._queue.popleft()
            if waiting.result.done():  # its caller has given up
                continue
            if keys.isdisjoint(waiting.keys) and not (taken and waiting.alone):
                taken.append(waiting)
            else:
                kept.append(waiting)
            keys.update(waiting.keys)
            if waiting.alone:
                break
        self._queue.extendleft(reversed(kept))
        self._in_flight.update(key for waiting in taken for key in waiting.keys)
        self._free -= bool(taken)
        return taken

    def _landed(self, batch: list[_Waiting]) -> None:
        self._in_flight.difference_update(key for waiting in batch for key in waiting.keys)
        self._free += bool(batch)
        self._wake.set()

    def _put_back(self, batch: list[_Waiting]) -> None:
        self._queue.extendleft(reversed(batch))
        self._landed(batch)

    async def _written(self, batch: list[_Waiting], conn: Connection) -> Results:
        return await self._write(conn, [waiting.postings for waiting in batch], [waiting.effect for waiting in batch])
