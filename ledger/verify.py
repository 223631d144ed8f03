"""Checking the hash chain against the rows as they are now: what was changed, dropped, inserted or reordered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from contracts import ids
from ledger import checks
from ledger.chain import GENESIS, LANES, Q, block_hash, leaves, root
from storage import sql
from storage.db import Connection

PAGE = 200
Heads = Mapping[tuple[int, int], bytes]


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong: an empty `findings` means that the books are as they were sealed.

    `archived` transactions lost their entries to an archive and were not hashed again; `waiting` are not sealed yet.
    """

    blocks: int = 0
    transactions: int = 0
    archived: int = 0
    waiting: int = 0
    findings: list[str] = field(default_factory=list)


async def verify(conn: Connection, *, anchored: Heads | None = None, since: datetime | None = None) -> Report:
    """Read every block and hash again what those sealed from `since` on hold; then run `ledger.checks`.

    `anchored` are hashes that blocks (lane, number) had when somebody wrote them down elsewhere. Call it in one
    transaction of level repeatable read: it reads the whole ledger.
    """
    report = Report()
    await Q.patient(conn)
    archived = {(row["month"].year, row["month"].month) for row in await Q.archived_months(conn)}
    expected = dict(anchored or {})
    for lane in LANES:
        await _verify_lane(conn, lane, report, expected, archived, since)
    for lane, number in sorted(expected):
        report.findings.append(f"lane {lane}: block {number} was anchored and is gone")
    for row in await Q.not_sealed_once(conn):
        report.findings.append(f"{ids.of('txn', row['id'])} is sealed or waiting {row['times']} times instead of once")
    for row in await Q.waiting_for_nothing(conn):
        report.findings.append(f"{ids.of('txn', row['transaction_id'])} waits, but not as a transaction of its lane")
    report.waiting = await Q.waiting_count(conn)
    report.findings += await checks.violations(conn)
    return report


async def _verify_lane(
    conn: Connection, lane: int, report: Report, expected: dict[tuple[int, int], bytes],
    archived: set[tuple[int, int]], since: datetime | None,
) -> None:  # fmt: skip
    number, total, previous = 0, 0, GENESIS
    while blocks := await Q.block_headers(conn, lane=lane, after=number, limit=PAGE):
        for block in blocks:
            at = f"lane {lane}: block {block['number']}"
            if block["number"] != number + 1:
                report.findings.append(f"{at} comes after block {number}: blocks between them are gone")
            elif block["previous"] != previous or block["total"] != total + block["count"]:
                report.findings.append(f"{at} does not continue block {number}")
            if block["hash"] != block_hash(lane, block):
                report.findings.append(f"{at} does not have the hash of its parts")
            if expected.pop((lane, block["number"]), block["hash"]) != block["hash"]:
                report.findings.append(f"{at} is another than the one that was anchored")
            if since is None or block["sealed_at"] >= since:
                await _verify_contents(conn, lane, block, report, archived)
            report.blocks += 1
            number, total, previous = block["number"], block["total"], block["hash"]


async def _verify_contents(
    conn: Connection, lane: int, block: sql.Row, report: Report, archived: set[tuple[int, int]]
) -> None:
    at = f"lane {lane}: block {block['number']}"
    held = await Q.block_contents(conn, lane=lane, number=block["number"])
    sealed_ids: list[UUID] = held["transaction_ids"]
    sealed = [held["leaves"][n : n + 32] for n in range(0, len(held["leaves"]), 32)]
    if not sealed or len(sealed) != len(sealed_ids) or root(sealed) != block["root"]:
        report.findings.append(f"{at} does not have the root of its leaves")
        return
    found, recorded = await leaves(conn, sealed_ids)
    for sealed_id, sealed_leaf in zip(sealed_ids, sealed, strict=True):
        report.transactions += 1
        if sealed_id not in found:
            report.findings.append(f"{at}: {ids.of('txn', sealed_id)} is gone")
        elif (recorded[sealed_id].year, recorded[sealed_id].month) in archived:
            report.archived += 1
        elif found[sealed_id] != sealed_leaf:
            report.findings.append(f"{at}: {ids.of('txn', sealed_id)} or its entries are not what was sealed")
        if sealed_id.int & 3 != lane:
            report.findings.append(f"{at}: {ids.of('txn', sealed_id)} belongs to another lane")
