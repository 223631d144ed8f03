"""What a wallet's owner reads over HTTP, every answer held to the contract; and what nobody else may read."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from pypdf import PdfReader

from contracts import ids
from contracts.money import Money
from contracts.principal import Principal
from contracts.runtime import RuntimeOptions, create_api, load_contracts
from handlers.wallet.operations import Operations
from handlers.wallet.service import Transfers
from handlers.wallet.transfers import TransferOperations
from ledger import accounts, archive, chain, journal, pdf, statements
from ledger.poster import Poster
from ledger.statements import INDIA
from matchday import wiring
from matchday.wiring import CONTRACTS
from storage.db import Database
from tests.money.past import CLEARING, Past, make_past
from tests.money.test_chain import tamper
from tests.money.test_reading import LATER, months_ago

OWNER, OTHER = "usr_0", "usr_1"
WALLET = accounts.wallet(OWNER, "INR")


class Reader:
    """A user who asks; every answer must be what the contract says."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self._client = client

    async def ask(self, path: str, *, user: str = OWNER, accept: str = "*/*", **query: object) -> ClientResponse:
        headers = {"Authorization": f"Bearer {user}", "Accept": accept}
        parameters = {name.rstrip("_"): str(value) for name, value in query.items()}
        return await self._client.get(f"/v1/wallet{path}", params=parameters, headers=headers)

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = await self.ask(path, **query)
        assert answer.status == 200, await answer.text()
        body: dict[str, Any] = await answer.json()
        return body

    async def refused(self, path: str, **query: Any) -> tuple[int, str]:
        answer = await self.ask(path, **query)
        return answer.status, (await answer.json())["code"]


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Reader]:
    async def believed(request: web.Request, credential: str, scopes: Sequence[str]) -> Principal:
        return Principal(credential, "ses", frozenset(scopes), datetime.now(UTC) + timedelta(hours=1))

    async def name_of(user_id: str) -> str:
        return "Smash"

    async def exists(user_id: str) -> bool:
        return True

    violations: list[str] = []
    poster = Poster(database)
    handlers: list[object] = [
        Operations(database, name_of=name_of),
        TransferOperations(Transfers(database, poster=poster, user_exists=exists, closed_loop=False)),
    ]
    app = create_api(
        load_contracts(CONTRACTS, ["wallet"]), operations=wiring.operations(handlers), security={"bearerAuth": believed},
        options=RuntimeOptions(response_validation="strict", response_violations=violations, cursor=lambda: "A"),
    )  # fmt: skip
    async with TestClient(TestServer(app)) as client:
        yield Reader(client)
    assert violations == []


@pytest.fixture
async def past(owner_database: Database) -> Past:
    return await make_past(owner_database, random.Random(7), postings=80, since=months_ago(4))


Post = Callable[..., Awaitable[journal.Posted]]


@pytest.fixture
def post(database: Database) -> Post:
    async def post(key: str, amount: str = "500.00", **more: Any) -> journal.Posted:
        legs = (journal.debit(CLEARING, Money.parse(amount, "INR")), journal.credit(WALLET, Money.parse(amount, "INR")))
        async with database.transaction() as conn:
            return await journal.post(conn, journal.Posting(key, "deposit", f"dep_{key}", None, legs, **more))

    return post


async def hold(database: Database, key: str, amount: str) -> journal.Posted:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    wanted = journal.Hold(key, "booking_hold", "bkg_1", None, WALLET, CLEARING, Money.parse(amount, "INR"), expires_at)
    async with database.transaction() as conn:
        return await journal.place(conn, wanted)


async def test_a_balance_tells_what_is_held(reader: Reader, database: Database, post: Post) -> None:
    assert (await reader.get("/balance"))["as_of"] is None
    posted = await post("p1")
    await hold(database, "h1", "120.50")
    found = await reader.get("/balance")
    assert {name: found[name]["amount"] for name in ("posted", "held", "available", "pending")} == {
        "posted": "500.00", "held": "120.50", "available": "379.50", "pending": "0.00",
    }  # fmt: skip
    assert (found["entries"], found["status"]) == (2, "open")
    before = await reader.get("/balance", at=posted.recorded_at.isoformat())
    assert (before["held"]["amount"], before["available"]["amount"], before["entries"]) == ("0.00", "500.00", 1)
    assert before["as_of"] == posted.recorded_at.isoformat()


async def test_a_balance_of_the_past_by_either_clock(reader: Reader, past: Past) -> None:
    dice = random.Random(3)
    for _ in range(30):
        at = past.instant(dice)
        for clock in ("recorded", "happened"):
            found = await reader.get("/balance", at=at.isoformat(), clock=clock)
            last = datetime.max.replace(tzinfo=UTC)
            recorded, happened = (at, last) if clock == "recorded" else (last, at)
            sums = past.sums(WALLET, recorded=recorded, happened=happened)
            assert found["posted"]["amount"] == f"{sums.credits - sums.debits:.2f}"
            assert found["entries"] == sums.sequence


@pytest.mark.parametrize("at", ["2026-06-30T23:59:60Z", "2026-06-30t23:59:59.123456789z", "2000-01-01T00:00:00+23:59"])
async def test_every_form_of_an_instant_is_understood(reader: Reader, at: str) -> None:
    assert (await reader.get("/balance", at=at))["entries"] == 0


async def test_an_instant_to_come_is_answered_as_of_now(reader: Reader, post: Post) -> None:
    await post("p1")
    found = await reader.get("/balance", at="2099-12-31T23:59:59-12:00", clock="happened")
    assert found["posted"]["amount"] == "500.00"
    assert datetime.fromisoformat(found["as_of"]) <= datetime.now(UTC)


async def test_pages_there_and_back(reader: Reader, past: Past) -> None:
    pages = [await reader.get("/entries", limit=5)]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(await reader.get("/entries", limit=5, cursor=cursor))
    expected = [row.sequence for row in reversed(past.of(WALLET))]
    assert [item["sequence"] for page in pages for item in page["items"]] == expected
    assert pages[0]["previous_cursor"] is None
    back = [pages[-1]]
    while cursor := back[-1]["previous_cursor"]:
        back.append(await reader.get("/entries", limit=5, cursor=cursor))
    assert [item["sequence"] for page in reversed(back) for item in page["items"]] == expected


async def test_entries_of_days_and_kinds(reader: Reader, past: Past) -> None:
    rows = past.of(WALLET)
    day = rows[len(rows) // 2].recorded_at.astimezone(INDIA).date()
    page = await reader.get("/entries", from_=day, to=day, limit=100)
    assert [item["sequence"] for item in page["items"]] == [
        row.sequence for row in reversed(rows) if row.recorded_at.astimezone(INDIA).date() == day
    ]
    page = await reader.get("/entries", kind="hold", reference="ref_1", limit=100)
    assert [item["sequence"] for item in page["items"]] == [
        row.sequence for row in reversed(rows) if (row.kind, row.reference) == ("hold", "ref_1")
    ]


async def test_a_period_the_wrong_way_round_is_refused(reader: Reader) -> None:
    for path in ("/entries", "/statement"):
        assert await reader.refused(path, from_="2026-11-02", to="2026-11-01") == (422, "wallet.period")
    assert await reader.refused("/statement", from_="2025-01-01", to="2026-01-02") == (422, "wallet.period")
    await reader.get("/statement", from_="2025-01-01", to="2026-01-01")
    assert await reader.refused("/statement", from_="2026-02-30", to="2026-03-01") == (400, "contract.parameter")


async def test_a_cursor_of_another_list_is_refused(reader: Reader, past: Past) -> None:
    first = await reader.get("/entries", limit=1)
    second = await reader.get("/entries", limit=1, cursor=first["next_cursor"])
    assert await reader.refused("/holds", cursor=second["previous_cursor"]) == (400, "contract.parameter")
    assert await reader.refused("/entries", cursor="OTIyMzM3MjAzNjg1NDc3NTgwNw") == (400, "contract.parameter")


async def test_a_statement_is_the_same_in_every_form(reader: Reader, past: Past) -> None:
    period = {"from_": months_ago(4).date(), "to": datetime.now(INDIA).date()}
    pages = [await reader.get("/statement", **period, limit=7)]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(await reader.get("/statement", **period, limit=7, cursor=cursor))
    lines = [line for page in pages for line in page["lines"]]
    assert [line["sequence"] for line in lines] == [row.sequence for row in past.of(WALLET)]
    assert (pages[0]["first_sequence"], pages[0]["last_sequence"]) == (1, len(lines))
    assert all(page["closing_balance"] == lines[-1]["balance_after"] for page in pages)

    answer = await reader.ask("/statement", accept="text/csv", **period)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].endswith(f'{period["from_"]}-{period["to"]}.csv"')
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept", "no-store")
    opening, *rows, closing = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
    assert (opening["row"], closing["balance"]) == ("opening", pages[0]["closing_balance"])
    assert [int(row["sequence"]) for row in rows] == [line["sequence"] for line in lines]
    assert [row["posted_late"] for row in rows] == ["yes" if line["posted_late"] else "no" for line in lines]

    answer = await reader.ask("/statement", accept="application/pdf", **period)
    assert answer.headers["Content-Type"] == "application/pdf"
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(await answer.read())).pages)
    assert f"{len(lines)} entries, numbered 1 to {len(lines)} without a hole" in text
    assert "Smash" in text


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "application/json"), ("text/csv;q=0.9, application/json;q=0.5", "text/csv"),
     ("text/*, application/pdf;q=0.1", "text/csv"), ("application/*", "application/json")],
)  # fmt: skip
async def test_accept_decides(reader: Reader, accept: str, media_type: str) -> None:
    answer = await reader.ask("/statement", accept=accept, from_="2026-11-01", to="2026-11-30")
    assert answer.headers["Content-Type"].split(";")[0] == media_type


async def test_nothing_else_is_acceptable(reader: Reader) -> None:
    assert await reader.refused("/statement", accept="image/png", from_="2026-11-01", to="2026-11-30") == (
        406, "contract.not_acceptable",
    )  # fmt: skip


async def test_a_pdf_of_too_much_is_refused(reader: Reader, past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_LINES", 3)
    period = {"from_": months_ago(4).date(), "to": datetime.now(INDIA).date()}
    assert await reader.refused("/statement", accept="application/pdf", **period) == (422, "ledger.statement_too_large")


async def test_a_file_with_a_hole_in_it_breaks_off(
    reader: Reader, past: Past, owner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 5)
    period = {"from_": months_ago(4).date(), "to": datetime.now(INDIA).date()}
    whole = await (await reader.ask("/statement", accept="text/csv", **period)).text()
    assert whole.splitlines()[-1].startswith("closing,")
    lost = past.of(WALLET)[7].transaction_id
    await tamper(owner_database, f"DELETE FROM ledger.entries WHERE transaction_id = '{lost}'")
    answer = await reader.ask("/statement", accept="text/csv", **period)
    with pytest.raises(ClientPayloadError):
        await answer.text()


async def test_what_is_archived_is_said(reader: Reader, past: Past, owner_database: Database, tmp_path: Path) -> None:
    await chain.seal(owner_database)
    await archive.archive(owner_database, months_ago(4).date(), tmp_path, today=LATER)
    then = months_ago(4) + timedelta(days=2)
    assert await reader.refused("/balance", at=then.isoformat()) == (410, "ledger.archived")
    assert await reader.refused("/statement", from_=then.date(), to=then.date()) == (410, "ledger.archived")
    page = await reader.get("/entries", limit=100)
    assert page["archived_before"] == months_ago(3).isoformat()
    gone = ids.of("txn", min(past.of(WALLET), key=lambda row: row.recorded_at).transaction_id)
    assert await reader.refused(f"/transactions/{gone}") == (410, "ledger.archived")


async def test_open_holds_in_pages(reader: Reader, database: Database, post: Post) -> None:
    await post("p1")
    placed = [await hold(database, f"h{n}", f"{n}.00") for n in range(1, 4)]
    async with database.transaction() as conn:
        for n, (captured, released) in enumerate([("1.00", None), ("0.50", "0.25")]):
            await journal.resolve(conn, journal.Resolution(
                f"r{n}", "capture", "bkg_1", None, "hld" + placed[n].transaction_id[3:],
                captured=Money.parse(captured, "INR"), released=Money.parse(released, "INR") if released else None,
            ))  # fmt: skip
    first = await reader.get("/holds", limit=1)
    second = await reader.get("/holds", limit=1, cursor=first["next_cursor"])
    assert [(hold["amount"], hold["left"], hold["direction"]) for hold in first["items"] + second["items"]] == [
        ("3.00", "3.00", "out"), ("2.00", "1.25", "out"),
    ]  # fmt: skip
    assert second["next_cursor"] is None
    assert (second["items"][0]["captured"], second["items"][0]["released"]) == ("0.50", "0.25")
    assert (second["items"][0]["reference"], second["items"][0]["kind"]) == ("bkg_1", "booking_hold")
    assert (await reader.get("/holds", user=OTHER))["items"] == []


async def test_a_transaction_shows_its_own_side_to_its_parties_only(
    reader: Reader, database: Database, post: Post
) -> None:
    posted = await post("p1")
    placed = await hold(database, "h1", "20.00")
    async with database.transaction() as conn:
        reversal = await journal.reverse(conn, (await post("p2")).transaction_id, key="r", reference="")
    deposit = await reader.get(f"/transactions/{posted.transaction_id}")
    assert (deposit["amount"], deposit["hold"], deposit["reversed_by"]) == ("500.00", None, None)
    held = await reader.get(f"/transactions/{placed.transaction_id}")
    assert (held["amount"], held["held"], held["hold"]["left"]) == ("0.00", "20.00", "20.00")
    turned = await reader.get(f"/transactions/{reversal.transaction_id}")
    original = await reader.get(f"/transactions/{turned['reverses']}")
    assert original["reversed_by"] == reversal.transaction_id
    for user, transaction_id in ((OTHER, posted.transaction_id), (OWNER, f"txn_{'0' * 26}")):
        assert await reader.refused(f"/transactions/{transaction_id}", user=user) == (
            404, "wallet.transaction_unknown",
        )  # fmt: skip


async def test_a_head_request_reads_no_lines(reader: Reader, past: Past) -> None:
    period = {"from": str(months_ago(4).date()), "to": str(datetime.now(INDIA).date())}
    for accept in ("text/csv", "application/pdf", "application/json"):
        answer = await reader._client.head(
            "/v1/wallet/statement", params=period, headers={"Authorization": f"Bearer {OWNER}", "Accept": accept}
        )
        assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (200, accept)
        assert await answer.read() == b""
