"""Old months of entries: into a file with a proof, and back.

A file is gzip over CSV as PostgreSQL writes it: the columns of `ledger.entries` in their order, rows by (account_id,
recorded_at), instants in UTC. Its digest is the SHA-256 of the CSV. What is archived is always the beginning of the
history; transactions, blocks and balances stay. Both ways need the owner of the tables.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from contracts.errors import StorageBusy
from ledger.chain import Q
from ledger.verify import Report, verify
from storage import faults
from storage.db import Connection, Database

# The lock of the last step was not free in time.
faults.on_sqlstate("55P03", lambda _: StorageBusy())

# The present month and so many before it stay: what may still be reversed or repeated is among them.
KEPT_MONTHS = 2
CHUNK = 1 << 20


class CannotArchive(RuntimeError):
    """The month has to stay, or the file is not the month; the message says why."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A month in a file: how many entries, and the SHA-256 of its CSV."""

    month: date
    entries: int
    digest: bytes
    file: Path


async def archive(db: Database, month: date, folder: Path, *, today: date) -> Archived:
    """Write a month to `folder`, prove that the file holds what was sealed, and drop it. Raises CannotArchive, OSError.

    `month` is its first day. Those who post wait for the moment of the drop only.
    """
    if month.day != 1 or _months(today) - _months(month) <= KEPT_MONTHS:
        raise CannotArchive(f"the present month and the {KEPT_MONTHS} before it stay")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    file = folder / f"entries-{month:%Y-%m}.csv.gz"
    async with db.transaction(isolation="repeatable_read") as conn:
        await Q.patient(conn)
        if month not in {row["month"] for row in await Q.months(conn)}:
            raise CannotArchive("that month is not here")
        await _refuse_obstacles(conn, month)
        _prove(await verify(conn))
        entries, digest = await _export(conn, month, file)
        await Q.archive_month(conn, month=month, entries=entries, digest=digest)
    return Archived(month, entries, digest, file)


async def restore(db: Database, month: date, file: Path) -> Archived:
    """Bring a month back from its file, and verify the chain over it. Raises CannotArchive, OSError.

    When the chain does not verify, the month is back all the same: the file was the one that was archived.
    """
    async with db.transaction() as conn:
        await Q.patient(conn)
        known = {row["month"]: row for row in await Q.archived_months(conn)}
        if month not in known:
            raise CannotArchive("that month is not archived")
        if month != max(known):
            raise CannotArchive("the newest archived month comes back first")
        try:
            digest = await asyncio.to_thread(_digest, file)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise CannotArchive("the file is damaged") from None
        if digest != known[month]["digest"]:
            raise CannotArchive("the file is not the one that was archived: its digest differs")
        name = await Q.recreate_month(conn, month=month)
        await conn.raw.copy_to_table(name, schema_name="ledger", source=_chunks(file), format="csv")
        await Q.attach_month(conn, month=month, entries=known[month]["entries"])
    # Not before the commit: the last step has locked a partition that every posting looks at.
    async with db.transaction(isolation="repeatable_read", readonly=True) as conn:
        _prove(await verify(conn))
    return Archived(month, known[month]["entries"], digest, file)


async def _refuse_obstacles(conn: Connection, month: date) -> None:
    found = await Q.obstacles(conn, first=_instant(month), until=_instant(_next(month)))
    if found["older"]:
        raise CannotArchive("older months are archived first")
    if found["holds"]:
        raise CannotArchive(f"{found['holds']} holds that were placed by then are open")
    if found["unsealed"]:
        raise CannotArchive(f"{found['unsealed']} transactions of it are not sealed: run `matchday ledger seal`")


def _prove(report: Report) -> None:
    if report.findings:
        raise CannotArchive(f"the books do not verify, {len(report.findings)} findings: {report.findings[0]}")


async def _export(conn: Connection, month: date, file: Path) -> tuple[int, bytes]:
    digest, size = hashlib.sha256(), 0
    part = file.with_suffix(".part")
    out = await asyncio.to_thread(gzip.open, part, "wb")

    async def write(chunk: bytes) -> None:
        nonlocal size
        size += chunk.count(b"\n")
        digest.update(chunk)
        await asyncio.to_thread(out.write, chunk)

    try:
        await conn.raw.copy_from_query(
            Q.entries_between.sql, _instant(month), _instant(_next(month)), output=write, format="csv"
        )
    finally:
        await asyncio.to_thread(out.close)
    if await asyncio.to_thread(_keep, part, file) != digest.digest():
        raise CannotArchive("the file does not read as it was written")
    return size, digest.digest()


def _keep(part: Path, file: Path) -> bytes:
    """Put the finished file in its place, on the disk; its digest, read again."""
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    part.replace(file)
    return _digest(file)


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with gzip.open(file, "rb") as packed:
        while chunk := packed.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    packed = await asyncio.to_thread(gzip.open, file, "rb")
    try:
        while chunk := await asyncio.to_thread(packed.read, CHUNK):
            yield chunk
    finally:
        await asyncio.to_thread(packed.close)


def _months(day: date) -> int:
    return day.year * 12 + day.month


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _instant(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
