"""Transfers behind their contract, on a real database: what moves, what is told, what is refused, what a repeat gets."""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from contracts import ids
from contracts.events import Event
from contracts.money import Money
from contracts.principal import Principal
from contracts.runtime import RuntimeOptions, create_api, load_contracts
from handlers.wallet.operations import Operations
from handlers.wallet.service import KnownUsers, Transfers
from handlers.wallet.store import post_transfers
from handlers.wallet.transfers import TransferOperations
from ledger import accounts, archive, balances, chain, checks, journal, recipes
from ledger.poster import Poster
from matchday import wiring
from storage.db import Database
from streams import log
from streams.log import Q as STREAMS
from streams.relay import today
from streams.schema import MessageContract
from tests.money import past
from tests.money.test_reading import LATER, months_ago
from tests.money.wire import When, once, wire

ALICE, BOB, CAROL = (ids.new("usr") for _ in range(3))
SCOPES = frozenset({"wallet:read", "wallet:write"})
CONTRACT = MessageContract.load()


@dataclass
class Wallets:
    """One API over one database; `asked` are the users that identity was asked about."""

    db: Database
    client: TestClient[web.Request, web.Application]
    asked: list[str]

    async def fill(self, user: str, amount: str) -> None:
        payment = secrets.token_hex(8)
        async with self.db.transaction() as conn:
            await journal.post(
                conn,
                recipes.deposit(
                    user_id=user, gateway="razorpay", payment_id=payment, deposit_id=f"dep_{payment}",
                    amount=Money.parse(amount, "INR"), happened_at=datetime.now(UTC),
                ),
            )  # fmt: skip

    async def send(
        self, sender: str, to: str, amount: str, *, key: str | None = None, **more: str
    ) -> tuple[ClientResponse, Any]:
        response = await self.client.post(
            "/v1/wallet/transfers",
            json={"to": to, "amount": {"amount": amount, "currency": "INR"}, **more},
            headers={"Authorization": f"Bearer {sender}", "Idempotency-Key": key or secrets.token_urlsafe(24)},
        )
        return response, await response.json()

    async def read(self, user: str, transfer_id: str) -> tuple[int, Any]:
        response = await self.client.get(
            f"/v1/wallet/transfers/{transfer_id}", headers={"Authorization": f"Bearer {user}"}
        )
        return response.status, await response.json()

    async def balance(self, user: str) -> str:
        async with self.db.connection() as conn:
            return (await balances.balance(conn, accounts.wallet(user, "INR"))).available.wire()

    async def change(self, user: str, status: str, ceiling: str | None = None) -> None:
        async with self.db.transaction() as conn:
            await journal.Q.change_account(
                conn, code=accounts.wallet(user, "INR").code, currency="INR", status=status,
                floor=Money.parse("0.00", "INR").amount, actor="a", reason="r",
                ceiling=None if ceiling is None else Money.parse(ceiling, "INR").amount,
            )  # fmt: skip

    async def told(self) -> list[log.LogEntry]:
        """What was told since the last time: the relay's work, once."""
        async with self.db.transaction() as conn:
            end = await STREAMS.lock_head(conn, shard=log.SHARD, today=today())
            await STREAMS.ensure_days(conn, first=end["day"], days=1)
            await STREAMS.begin_day(conn, shard=log.SHARD, day=end["day"])
            await STREAMS.move_batch(
                conn, shard=log.SHARD, head=end["head"], sequence=end["sequence"], day=end["day"], batch=1000
            )  # fmt: skip
            _, entries = await log.follow(conn, after=end["head"], page=1000)
        for entry in entries:
            CONTRACT.check_event(
                Event(entry.type, entry.subject, entry.channels, entry.data, entry.event_id, entry.happened_at)
            )
        return entries


async def who(request: web.Request, credential: str, scopes: object) -> Principal:
    return Principal(credential, ids.new("ses"), SCOPES, datetime.now(UTC) + timedelta(minutes=1))


async def nobody(user_id: str) -> str | None:
    return None


async def everybody(user_id: str) -> bool:
    return True


def api(database: Database, transfers: Transfers, broken: list[str]) -> web.Application:
    """The wallet's contract, every answer held to it."""
    handlers: list[object] = [Operations(database, name_of=nobody), TransferOperations(transfers)]
    return create_api(
        load_contracts(wiring.CONTRACTS, ["wallet"]), operations=wiring.operations(handlers),
        security={"bearerAuth": who},
        options=RuntimeOptions(response_validation="strict", response_violations=broken, cursor=lambda: "A"),
    )  # fmt: skip


@pytest.fixture
async def poster(database: Database) -> AsyncIterator[Poster]:
    poster = Poster(database, write=post_transfers)
    poster.start()
    yield poster
    await poster.stop()


@pytest.fixture
def closed_loop() -> bool:
    return False


@pytest.fixture
async def wallets(database: Database, poster: Poster, closed_loop: bool) -> AsyncIterator[Wallets]:
    asked: list[str] = []
    broken: list[str] = []

    async def user_exists(user_id: str) -> bool:
        asked.append(user_id)
        return user_id in (ALICE, BOB, CAROL)

    transfers = Transfers(database, poster=poster, user_exists=user_exists, closed_loop=closed_loop)
    async with TestClient(TestServer(api(database, transfers, broken))) as client:
        yield Wallets(database, client, asked)
    assert broken == []
    async with database.connection() as conn:
        assert await checks.violations(conn) == []


async def test_the_money_moves_and_both_sides_are_told(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "500.00")
    response, made = await wallets.send(ALICE, BOB, "120.50", note="Court on Sunday")
    assert response.status == 201
    assert response.headers["Location"] == f"/v1/wallet/transfers/{made['transfer_id']}"
    assert "Idempotent-Replayed" not in response.headers
    assert made["transaction_id"] == made["transfer_id"].replace("trf_", "txn_")
    assert made == {
        "transfer_id": made["transfer_id"], "transaction_id": made["transaction_id"], "from": ALICE, "to": BOB,
        "amount": {"amount": "120.50", "currency": "INR"}, "note": "Court on Sunday",
        "balance": {"available": {"amount": "379.50", "currency": "INR"}}, "created_at": made["created_at"],
    }  # fmt: skip
    assert (await wallets.balance(ALICE), await wallets.balance(BOB)) == ("379.50", "120.50")

    debited, credited = await wallets.told()
    common = {
        "transaction_id": made["transaction_id"], "kind": "transfer", "reference": made["transfer_id"],
        "amount": made["amount"],
    }  # fmt: skip
    assert (debited.type, debited.subject, debited.channels) == (
        "wallet.debited", ALICE, (f"user:{ALICE}", f"wallet:{ALICE}"),
    )  # fmt: skip
    assert debited.data == {**common, "balance": made["balance"], "counterparty": BOB}
    assert (credited.type, credited.subject, credited.channels) == (
        "wallet.credited", BOB, (f"user:{BOB}", f"wallet:{BOB}"),
    )  # fmt: skip
    assert credited.data == {**common, "balance": {"available": made["amount"]}, "counterparty": ALICE}
    assert debited.happened_at == credited.happened_at == datetime.fromisoformat(made["created_at"])


async def test_a_repeat_gets_the_first_answer_whatever_happened_since(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "500.00")
    first, made = await wallets.send(ALICE, BOB, "100.00", key="k" * 16, note="x")
    await wallets.send(ALICE, BOB, "400.00")
    await wallets.told()
    again, made_again = await wallets.send(ALICE, BOB, "100.00", key="k" * 16, note="x")
    assert (again.status, made_again) == (first.status, made)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await wallets.told() == []
    assert (await wallets.balance(ALICE), await wallets.balance(BOB)) == ("0.00", "500.00")


@pytest.mark.parametrize(
    "other", [{"amount": "100.01"}, {"to": CAROL}, {"note": "another"}, {"note": None}], ids=lambda other: str([*other])
)
async def test_a_key_that_said_something_else_is_refused(wallets: Wallets, other: dict[str, Any]) -> None:
    await wallets.fill(ALICE, "500.00")
    first = {"to": BOB, "amount": "100.00", "note": "x"}
    await wallets.send(ALICE, key="k" * 16, **first)
    changed = {name: value for name, value in {**first, **other}.items() if value is not None}
    response, problem = await wallets.send(ALICE, key="k" * 16, **changed)
    assert (response.status, problem["code"]) == (422, "idempotency.mismatch")
    assert await wallets.balance(ALICE) == "400.00"


async def test_a_key_is_its_senders_own(wallets: Wallets) -> None:
    for user in (ALICE, BOB):
        await wallets.fill(user, "10.00")
        response, _ = await wallets.send(user, CAROL, "10.00", key="k" * 255)
        assert (response.status, "Idempotent-Replayed" in response.headers) == (201, False)
    assert await wallets.balance(CAROL) == "20.00"


async def test_thirty_taps_at_once_are_one_transfer(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "500.00")
    answers = await asyncio.gather(*(wallets.send(ALICE, BOB, "100.00", key="k" * 16) for _ in range(30)))
    assert {response.status for response, _ in answers} == {201}
    assert all(made == answers[0][1] for _, made in answers)
    assert sum("Idempotent-Replayed" not in response.headers for response, _ in answers) == 1
    assert await wallets.balance(ALICE) == "400.00"
    assert len(await wallets.told()) == 2


async def test_more_than_there_is_is_refused_and_leaves_the_key_free(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "99.99")
    response, problem = await wallets.send(ALICE, BOB, "100.00", key="k" * 16)
    assert (response.status, problem["code"]) == (422, "wallet.insufficient_funds")
    assert (await wallets.balance(ALICE), await wallets.told()) == ("99.99", [])
    await wallets.fill(ALICE, "0.01")
    response, _ = await wallets.send(ALICE, BOB, "100.00", key="k" * 16)
    assert (response.status, "Idempotent-Replayed" in response.headers) == (201, False)


async def test_sender_and_receiver_are_two(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "100.00")
    response, problem = await wallets.send(ALICE, ALICE, "1.00")
    assert (response.status, problem["code"]) == (422, "wallet.transfer_to_self")


async def test_a_receiver_must_exist_and_is_asked_for_once(wallets: Wallets) -> None:
    stranger = ids.new("usr")
    await wallets.fill(ALICE, "100.00")
    for _ in range(2):
        response, problem = await wallets.send(ALICE, stranger, "1.00")
        assert (response.status, problem["code"]) == (422, "wallet.receiver_unknown")
        assert (await wallets.send(ALICE, BOB, "1.00"))[0].status == 201
    assert wallets.asked == [stranger, BOB, stranger]


async def test_who_is_known_is_forgotten_when_there_are_too_many() -> None:
    asked: list[str] = []

    async def ask(user_id: str) -> bool:
        asked.append(user_id)
        return True

    known = KnownUsers(ask, size=2)
    assert all([await known(user) for user in ("a", "b", "a", "c", "b", "a")])
    assert asked == ["a", "b", "c", "a"]


async def test_nothing_leaves_a_frozen_wallet_and_it_may_still_receive(wallets: Wallets) -> None:
    for owner in (ALICE, BOB):
        await wallets.fill(owner, "100.00")
    await wallets.change(ALICE, "frozen")
    response, problem = await wallets.send(ALICE, BOB, "1.00")
    assert (response.status, problem["code"]) == (422, "wallet.frozen")
    assert (await wallets.send(BOB, ALICE, "1.00"))[0].status == 201


async def test_nothing_reaches_a_closed_wallet(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "100.00")
    await wallets.send(ALICE, BOB, "1.00")
    await wallets.send(BOB, ALICE, "1.00")
    await wallets.change(BOB, "closed")
    response, problem = await wallets.send(ALICE, BOB, "1.00")
    assert (response.status, problem["code"]) == (422, "wallet.closed")
    assert await wallets.balance(ALICE) == "100.00"


async def test_a_wallet_that_may_hold_no_more_is_left_as_it_is(wallets: Wallets) -> None:
    for owner in (ALICE, BOB):
        await wallets.fill(owner, "100.00")
    await wallets.change(BOB, "open", ceiling="100.50")
    response, problem = await wallets.send(ALICE, BOB, "0.51")
    assert (response.status, problem["code"]) == (422, "wallet.limit_exceeded")
    assert (await wallets.send(ALICE, BOB, "0.50"))[0].status == 201


@pytest.mark.parametrize("amount", ["0.00", "1", "-1.00", "01.00", "1.000", "1e3", "１.00", "9999999999999999.00"])
async def test_an_amount_is_above_zero_and_has_two_places(wallets: Wallets, amount: str) -> None:
    response, problem = await wallets.send(ALICE, BOB, amount)
    assert (response.status, problem["code"]) == (400, "contract.body")


@pytest.mark.parametrize("note", ["", "two\nlines", "x" * 141])
async def test_a_note_is_one_line(wallets: Wallets, note: str) -> None:
    response, problem = await wallets.send(ALICE, BOB, "1.00", note=note)
    assert (response.status, problem["code"]) == (400, "contract.body")


async def test_both_parties_read_it_each_with_its_own_balance(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "500.00")
    await wallets.fill(BOB, "7.00")
    _, made = await wallets.send(ALICE, BOB, "100.00", note="Räquet 🏸")
    await wallets.send(ALICE, BOB, "50.00")
    assert await wallets.read(ALICE, made["transfer_id"]) == (200, made)
    received = {**made, "balance": {"available": {"amount": "107.00", "currency": "INR"}}}
    assert await wallets.read(BOB, made["transfer_id"]) == (200, received)
    assert made["note"] == "Räquet 🏸"


async def test_others_and_other_transactions_are_unknown(wallets: Wallets) -> None:
    await wallets.fill(ALICE, "500.00")
    _, made = await wallets.send(ALICE, BOB, "100.00")
    async with wallets.db.connection() as conn:
        deposit = await conn.raw.fetchval("SELECT id FROM ledger.transactions WHERE kind = 'deposit'")
    for user, transfer_id in (
        (CAROL, made["transfer_id"]), (ALICE, ids.new("trf")), (ALICE, ids.of("trf", deposit)),
    ):  # fmt: skip
        status, problem = await wallets.read(user, transfer_id)
        assert (status, problem["code"]) == (404, "transfer.unknown")


@pytest.mark.parametrize("closed_loop", [True])
async def test_users_of_a_closed_wallet_do_not_pay_each_other(wallets: Wallets, closed_loop: bool) -> None:
    await wallets.fill(ALICE, "500.00")
    response, problem = await wallets.send(ALICE, BOB, "1.00")
    assert (response.status, problem["code"]) == (403, "wallet.closed_loop")
    assert await wallets.balance(ALICE) == "500.00"


async def test_too_many_at_once_are_told_when_to_come_back(database: Database) -> None:
    full = Poster(database, queue=0)
    transfers = Transfers(database, poster=full, user_exists=everybody, closed_loop=False)
    async with TestClient(TestServer(api(database, transfers, []))) as client:
        response, problem = await Wallets(database, client, []).send(ALICE, BOB, "1.00")
    assert (response.status, problem["code"], problem["retry"]) == (503, "storage.busy", "same_key")
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("when", "replayed"), [("before", False), ("after", True), ("last words", False)], ids=["before", "after", "dying"]
)
async def test_an_answer_that_got_lost_is_found_and_nothing_is_told_twice(
    database: Database, database_dsn: str, when: When, replayed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with wire(database_dsn, Path(folder)) as lossy:
            behind = Database(lossy.dsn)
            await behind.connect()
            poster = Poster(behind, write=post_transfers, flights=1)
            poster.start()
            transfers = Transfers(behind, poster=poster, user_exists=everybody, closed_loop=False)
            async with TestClient(TestServer(api(behind, transfers, []))) as client:
                wallets = Wallets(database, client, [])
                await wallets.fill(ALICE, "500.00")
                lossy.cut = once(f"transfer:{ALICE}".encode(), when)
                answers = await asyncio.gather(*(wallets.send(ALICE, BOB, "1.00") for _ in range(3)))
                told = await wallets.told()
            await poster.stop()
            await behind.disconnect()
    assert lossy.cuts == 1
    assert [response.status for response, _ in answers] == [201, 201, 201]
    assert any("Idempotent-Replayed" in response.headers for response, _ in answers) == replayed
    assert Counter(event.type for event in told) == {"wallet.debited": 3, "wallet.credited": 3}
    assert (await wallets.balance(ALICE), await wallets.balance(BOB)) == ("497.00", "3.00")


async def test_a_transfer_whose_month_was_archived_is_told_so(owner_database: Database, tmp_path: Path) -> None:
    poster = Poster(owner_database, write=post_transfers)
    poster.start()
    transfers = Transfers(owner_database, poster=poster, user_exists=everybody, closed_loop=False)
    async with TestClient(TestServer(api(owner_database, transfers, []))) as client:
        wallets = Wallets(owner_database, client, [])
        await wallets.fill(ALICE, "500.00")
        _, made = await wallets.send(ALICE, BOB, "100.00", key="k" * 16)
        await past._move(owner_database, random.Random(1), since=months_ago(4))
        await chain.seal(owner_database)
        for month in range(4, -1, -1):
            await archive.archive(owner_database, months_ago(month).date(), tmp_path, today=LATER)
        response, problem = await wallets.send(ALICE, BOB, "100.00", key="k" * 16)
        assert (response.status, problem["code"]) == (410, "ledger.archived")
        status, problem = await wallets.read(BOB, made["transfer_id"])
        assert (status, problem["code"]) == (410, "ledger.archived")
        assert await wallets.balance(ALICE) == "400.00"
    await poster.stop()
