"""What contracts/wallet.yaml calls: read the ledger, render."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import hdrs, web

from contracts.runtime import Call, Reply, preferred
from handlers.wallet import reads, rendering
from handlers.wallet.reads import TransactionUnknown
from ledger import accounts, balances, documents, lookup, open_holds, pages, pdf, statements
from ledger.accounts import Account
from ledger.reading import NEWEST
from ledger.statements import Statement
from storage.db import Database

JSON, CSV, PDF = "application/json", "text/csv", "application/pdf"


class NameOf(Protocol):
    """The question whose wallet it is, in words; None for nobody. Raises StorageBusy."""

    async def __call__(self, user_id: str) -> str | None: ...


class Operations:
    """One method per operationId."""

    def __init__(self, db: Database, *, name_of: NameOf) -> None:
        self._db = db
        self._name_of = name_of
        self._drawing = asyncio.Lock()  # a page is drawn by Python alone: one document at a time

    async def get_balance(self, call: Call) -> Reply:
        account = _wallet(call)
        async with self._db.connection() as conn:
            if "at" not in call.query:
                return Reply(200, rendering.balance(await balances.balance(conn, account)))
            at = min(reads.instant(call.query["at"]), datetime.now(UTC))
            happened = at if call.query["clock"] == "happened" else NEWEST
            recorded = at if call.query["clock"] == "recorded" else NEWEST
            found = await balances.balance_at(conn, account, recorded=recorded, happened=happened)
        return Reply(200, {**rendering.balance(found), "as_of": at.isoformat()})

    async def list_entries(self, call: Call) -> Reply:
        account, limit = _wallet(call), call.query["limit"]
        narrowed = reads.narrowed(call.query)
        position, newer = reads.position(call.query, both_ways=True)
        async with self._db.connection() as conn:
            if newer and position is not None:
                found = await pages.newer(conn, account, than=position, limit=limit, narrowed=narrowed)
            else:
                found = await pages.older(conn, account, than=position, limit=limit, narrowed=narrowed)
        return Reply(200, rendering.page(found))

    async def get_statement(self, call: Call) -> Reply | web.StreamResponse:
        account, period = _wallet(call), reads.period(call.query)
        wanted = preferred(call.request.headers.get(hdrs.ACCEPT, JSON), (JSON, CSV, PDF))
        if wanted == JSON:
            position, _ = reads.position(call.query)
            async with self._db.transaction(readonly=True) as conn:
                head = await statements.statement(conn, account, period)
                lines = await statements.lines(conn, head, after=position, limit=call.query["limit"])
            return Reply(200, rendering.statement(head, lines), {hdrs.VARY: hdrs.ACCEPT})
        async with self._db.connection() as conn:
            head = await statements.statement(conn, account, period)
        return await (self._stream(call, head) if wanted == CSV else self._draw(call, head))

    async def list_holds(self, call: Call) -> Reply:
        limit = call.query["limit"]
        position, _ = reads.position(call.query)
        async with self._db.connection() as conn:
            found = await open_holds.open_holds(conn, _wallet(call), before=position or NEWEST, limit=limit + 1)
        return Reply(200, rendering.holds(found, limit))

    async def get_transaction(self, call: Call) -> Reply:
        async with self._db.connection() as conn:
            found = await lookup.own_side(conn, _wallet(call), call.path["transaction_id"])
        if found is None:
            raise TransactionUnknown
        return Reply(200, rendering.transaction(found))

    async def _stream(self, call: Call, head: Statement) -> web.StreamResponse:
        response = web.StreamResponse(headers=_headers(head, CSV, "csv"))
        await response.prepare(call.request)
        if call.request.method != hdrs.METH_HEAD:
            async for piece in documents.as_csv(head, statements.every_line(self._db, head)):
                await response.write(piece)
        await response.write_eof()
        return response

    async def _draw(self, call: Call, head: Statement) -> web.Response:
        holder = await self._name_of(call.principal.user_id)
        async with self._drawing:
            document = await pdf.draw(self._db, head, holder=holder)
        return web.Response(body=document, headers=_headers(head, PDF, "pdf"))


def _wallet(call: Call) -> Account:
    return accounts.wallet(call.principal.user_id, call.query["currency"])


def _headers(head: Statement, media_type: str, suffix: str) -> dict[str, str]:
    name = f"statement-{head.period.first}-{head.period.last}.{suffix}"
    charset = "; charset=utf-8" if media_type == CSV else ""
    return {
        hdrs.CONTENT_TYPE: media_type + charset,
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"',
        hdrs.VARY: hdrs.ACCEPT,
    }
