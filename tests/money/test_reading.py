"""Reading the past: every answer is held to that of going through all entries, and what is archived is never guessed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from contracts import ids
from contracts.money import Money
from ledger import accounts, archive, balances, chain, journal, lookup, open_holds, pages, trial
from ledger.accounts import Account
from ledger.balances import Balance
from ledger.lookup import TooManyFound
from ledger.pages import Filter, Page
from ledger.reading import NEWEST, OLDEST, ArchivedEntries, Q
from storage.db import Connection, Database
from tests.money.past import ACCOUNTS, CLEARING, WALLETS, Past, Row, Sums, grow, make_past

TODAY = datetime.now(UTC).date()
LATER = (TODAY.replace(day=1) + timedelta(days=200)).replace(day=1)
TICK = timedelta(microseconds=1)


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("READING_SEED", "0")) or random.randrange(2**32)
    print(f"READING_SEED={seed}")
    return random.Random(seed)


def months_ago(count: int) -> datetime:
    day = TODAY.replace(day=1)
    for _ in range(count):
        day = (day - timedelta(days=1)).replace(day=1)
    return datetime(day.year, day.month, 1, tzinfo=UTC)


@pytest.fixture
async def past(owner_database: Database, dice: random.Random) -> Past:
    return await make_past(owner_database, dice, postings=150, since=months_ago(4))


def counted(account: Account, found: Balance) -> Sums:
    held, pending = found.held.amount, found.pending.amount
    pending_debits, pending_credits = (held, pending) if account.credit_normal else (pending, held)
    return Sums(found.sequence, found.credits.amount, found.debits.amount, pending_credits, pending_debits)


async def at(database: Database, account: Account, recorded: datetime, happened: datetime = NEWEST) -> Sums:
    async with database.connection() as conn:
        found = await balances.balance_at(conn, account, recorded=recorded, happened=happened)
    sign = 1 if account.credit_normal else -1
    assert found.posted.amount == sign * (found.credits.amount - found.debits.amount)
    return counted(account, found)


async def deposit(database: Database, wallet: Account, *, source: Account = CLEARING) -> None:
    one = Money.parse("1.00", "INR")
    async with database.transaction() as conn:
        legs = (journal.debit(source, one), journal.credit(wallet, one))
        await journal.post(conn, journal.Posting(f"deposit:{wallet.code}", "deposit", "", None, legs))


async def test_balances_at_any_instant_by_either_clock(database: Database, past: Past, dice: random.Random) -> None:
    for _ in range(400):
        account = dice.choice(ACCOUNTS)
        recorded = dice.choice([past.instant(dice), NEWEST])
        happened = dice.choice([past.instant(dice), NEWEST])
        expected = past.sums(account, recorded=recorded, happened=happened)
        assert await at(database, account, recorded, happened) == expected, (account.code, recorded, happened)


async def test_now_is_the_balance_of_now(database: Database, past: Past) -> None:
    for account in ACCOUNTS:
        async with database.connection() as conn:
            now = await balances.balance(conn, account)
        assert counted(account, now) == await at(database, account, NEWEST)


async def test_nothing_before_the_first_entry_and_nothing_of_an_unopened_account(
    database: Database, past: Past
) -> None:
    nothing = Sums(0, Decimal(0), Decimal(0), Decimal(0), Decimal(0))
    assert await at(database, CLEARING, past.first - TICK) == nothing
    assert await at(database, accounts.wallet("usr_nobody", "INR"), NEWEST) == nothing
    assert await at(database, CLEARING, NEWEST, past.first - timedelta(days=50)) == nothing


async def test_the_status_is_that_of_the_instant(owner_database: Database, past: Past) -> None:
    before = datetime.now(UTC)
    async with owner_database.transaction() as conn:
        await journal.Q.change_account(
            conn, code=WALLETS[0].code, currency="INR", status="frozen", floor=Decimal(0), ceiling=None, actor="a",
            reason="r",
        )  # fmt: skip
    async with owner_database.connection() as conn:
        assert (await balances.balance_at(conn, WALLETS[0])).status == "frozen"
        assert (await balances.balance_at(conn, WALLETS[0], recorded=before - timedelta(seconds=1))).status == "open"


async def test_what_is_archived_is_refused_and_the_rest_is_exact(
    owner_database: Database, past: Past, dice: random.Random, tmp_path: Path
) -> None:
    await chain.seal(owner_database)
    quiet = accounts.wallet("usr_quiet", "INR")
    for month in (months_ago(4).date(), months_ago(3).date()):
        await archive.archive(owner_database, month, tmp_path, today=LATER)
    horizon = months_ago(2)
    refused = 0
    for _ in range(400):
        account = dice.choice([*ACCOUNTS, quiet])
        recorded = dice.choice([past.instant(dice), NEWEST])
        happened = dice.choice([past.instant(dice), NEWEST, horizon, horizon - TICK])
        try:
            found = await at(owner_database, account, recorded, happened)
        except ArchivedEntries:
            refused += 1
            assert min(recorded, happened) < horizon - TICK
        else:
            assert found == past.sums(account, recorded=recorded, happened=happened), (account.code, recorded, happened)
    assert refused > 20


# --- pages


def newest_first(past: Past, account: Account, wanted: Callable[[Row], bool]) -> list[int]:
    return [row.sequence for row in reversed(past.of(account)) if wanted(row)]


async def walk_back(database: Database, account: Account, narrowed: Filter, limit: int) -> list[Page]:
    found: list[Page] = []
    position = None
    while not found or position is not None:
        async with database.connection() as conn:
            found.append(await pages.older(conn, account, than=position, limit=limit, narrowed=narrowed))
        position = found[-1].older
    return found


async def walk_forward(
    database: Database, account: Account, narrowed: Filter, start: datetime, limit: int
) -> list[Page]:
    found: list[Page] = []
    position: datetime | None = start
    while position is not None:
        async with database.connection() as conn:
            found.append(await pages.newer(conn, account, than=position, limit=limit, narrowed=narrowed))
        position = found[-1].newer
    return found


def numbers(found: list[Page]) -> list[int]:
    return [entry.sequence for page in found for entry in page.items]


async def test_pages_both_ways_hold_every_entry_once(
    database: Database, past: Past, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LOOK", 7)
    for _ in range(60):
        account, limit = dice.choice(ACCOUNTS), dice.randrange(1, 9)
        since, until = sorted([past.instant(dice), past.instant(dice)])
        narrowed = Filter(
            since=dice.choice([OLDEST, since]), until=dice.choice([NEWEST, until]),
            kind=dice.choice([None, "deposit", "hold", "none"]), reference=dice.choice([None, None, "ref_1", "none"]),
        )  # fmt: skip

        def wanted(row: Row, narrowed: Filter = narrowed) -> bool:
            return (
                narrowed.since <= row.recorded_at < narrowed.until
                and narrowed.kind in (None, row.kind)
                and narrowed.reference in (None, row.reference)
            )

        back = await walk_back(database, account, narrowed, limit)
        assert numbers(back) == newest_first(past, account, wanted)
        assert all(len(page.items) <= limit and page.archived_before is None for page in back)
        forward = await walk_forward(database, account, narrowed, past.first - TICK, limit)
        assert numbers(forward[::-1]) == newest_first(past, account, wanted)


async def test_a_page_leads_back_to_where_one_came_from(database: Database, past: Past) -> None:
    first, second, *_ = await walk_back(database, CLEARING, pages.EVERYTHING, 5)
    assert first.newer is None
    assert second.newer is not None
    async with database.connection() as conn:
        again = await pages.newer(conn, CLEARING, than=second.newer, limit=5)
    assert (again.items, again.newer) == (first.items, None)
    assert again.older == second.items[0].recorded_at + (first.items[-1].recorded_at - second.items[0].recorded_at)


async def test_new_entries_are_found_from_the_newest_page_on(database: Database, past: Past) -> None:
    (newest,) = (await walk_back(database, WALLETS[0], pages.EVERYTHING, 1))[:1]
    position = newest.items[0].recorded_at
    await deposit(database, WALLETS[0])
    async with database.connection() as conn:
        page = await pages.newer(conn, WALLETS[0], than=position, limit=10)
    assert [entry.sequence for entry in page.items] == [newest.items[0].sequence + 1]


async def test_the_last_page_says_that_older_entries_are_archived(
    owner_database: Database, past: Past, tmp_path: Path
) -> None:
    await chain.seal(owner_database)
    await archive.archive(owner_database, months_ago(4).date(), tmp_path, today=LATER)
    *others, last = await walk_back(owner_database, CLEARING, pages.EVERYTHING, 20)
    assert last.archived_before == months_ago(3)
    assert last.items[-1].sequence > 1
    assert all(page.archived_before is None for page in others)
    *_, narrow = await walk_back(owner_database, CLEARING, Filter(since=months_ago(3)), 20)
    assert narrow.archived_before is None
    *_, reference = await walk_back(owner_database, CLEARING, Filter(reference="none"), 20)
    assert reference.archived_before == months_ago(3)
    young = accounts.wallet("usr_young", "INR")
    await deposit(owner_database, young)
    *_, whole = await walk_back(owner_database, young, Filter(reference="none"), 20)
    assert whole.archived_before is None


# --- trial balance


def first_segments(code: str, count: int | None) -> str:
    return ":".join(code.split(":")[:count])


async def groups(database: Database, **wanted: object) -> list[trial.Group]:
    async with database.transaction(readonly=True) as conn:
        return [group async for group in trial.trial_balance(conn, **wanted)]  # type: ignore[arg-type]


async def test_trial_balances_agree_with_a_count_and_sum_to_zero(
    database: Database, past: Past, dice: random.Random
) -> None:
    for _ in range(25):
        instant, segments = dice.choice([past.instant(dice), NEWEST]), dice.choice([1, 2, None])
        found = await groups(database, segments=segments, at=instant)
        expected: dict[str, Decimal] = {}
        for account in ACCOUNTS:
            sums = past.sums(account, recorded=instant, happened=NEWEST)
            code = first_segments(account.code, segments)
            expected[code] = expected.get(code, Decimal(0)) + sums.credits - sums.debits
        assert {group.code: group.posted for group in found} == expected
        assert sum(group.debit for group in found) == sum(group.credit for group in found)
        assert [group.code for group in found] == sorted(expected)


async def test_a_trial_balance_of_an_archived_instant_is_refused(
    owner_database: Database, past: Past, tmp_path: Path
) -> None:
    await chain.seal(owner_database)
    await archive.archive(owner_database, months_ago(4).date(), tmp_path, today=LATER)
    await deposit(owner_database, WALLETS[0], source=accounts.bank("first", "INR"))
    async with owner_database.transaction(readonly=True) as conn:
        with pytest.raises(ArchivedEntries):  # before anything is told, although the first account is known
            await anext(trial.trial_balance(conn, at=months_ago(4) + timedelta(days=3)))
    exact = await groups(owner_database, at=months_ago(3) - TICK)
    assert {group.code: group.posted for group in exact if group.code != "bank:first"} == {
        account.code: (sums := past.sums(account, recorded=months_ago(3) - TICK, happened=NEWEST)).credits - sums.debits
        for account in ACCOUNTS
    }


async def test_a_tree_rolls_up_stripes_and_leaves_namesakes_out(database: Database) -> None:
    sources = [
        Account("fees:razorpay:s0", "INR", "income"), Account("fees:razorpay:s1", "INR", "income"),
        Account("fees:razorpay", "INR", "income"), Account("fees:razorpay2", "INR", "income"),
        Account("fees", "INR", "income"),
    ]  # fmt: skip
    for n, source in enumerate(sources):
        amount = Money.from_minor(10**n, "INR")
        async with database.transaction() as conn:
            legs = (journal.debit(CLEARING, amount), journal.credit(source, amount))
            await journal.post(conn, journal.Posting(f"f{n}", "fee", "", None, legs))

    async def drawn(code: str, levels: int) -> list[tuple[str, int, Decimal]]:
        async with database.transaction(readonly=True) as conn:
            return [
                (node.code, node.accounts, node.balance) for node in await trial.tree(conn, code=code, levels=levels)
            ]

    assert await drawn("fees:razorpay", 1) == [
        ("fees:razorpay", 3, Decimal("1.11")),
        ("fees:razorpay:s0", 1, Decimal("0.01")),
        ("fees:razorpay:s1", 1, Decimal("0.10")),
    ]
    assert await drawn("fees", 1) == [
        ("fees", 5, Decimal("111.11")),
        ("fees:razorpay", 3, Decimal("1.11")),
        ("fees:razorpay2", 1, Decimal("10.00")),
    ]
    assert (await drawn("", 0)) == [("", 6, Decimal("0.00"))]


# --- what it costs

BIG = Account("big", "INR", "liability")
SMALL = Account("small", "INR", "liability")


async def pages_read(conn: Connection, name: str, **parameters: object) -> int:
    """How many blocks of the database a query looks at, and that it goes through no month from end to end."""
    query = getattr(Q, name)
    args = [parameters[name] for name in query.parameters]
    ((plan,),) = [await conn.raw.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.sql}", *args)]
    todo = [plan["Plan"]]
    while todo:
        node = todo.pop()
        todo += node.get("Plans", [])
        through = node["Node Type"] == "Seq Scan" and node["Relation Name"].startswith(("entries", "transactions"))
        assert not through or node["Actual Rows"] + node.get("Rows Removed by Filter", 0) == 0, node
    return int(plan["Plan"]["Shared Hit Blocks"]) + int(plan["Plan"]["Shared Read Blocks"])


async def test_a_long_history_costs_what_a_short_one_does(owner_database: Database) -> None:
    since = months_ago(4)
    await grow(owner_database, BIG, entries=40_000, since=since, step=timedelta(minutes=4))
    await grow(owner_database, SMALL, entries=400, since=since, step=timedelta(minutes=400))
    middle = months_ago(2) + timedelta(days=10)
    everything = {"after": OLDEST, "before": middle, "look": 21, "limit": 21, "kind": None}
    questions: list[tuple[int, str, dict[str, object]]] = [
        # most blocks, query, parameters
        (20, "balance", {}),
        (60, "states", {"recorded": [middle], "happened": [NEWEST]}),
        (900, "states", {"recorded": [NEWEST], "happened": [middle]}),  # the late entries of ten days
        (150, "entries_before", everything),
        (150, "entries_after", {**everything, "after": middle, "before": NEWEST}),
        (5000, "entries_before", {**everything, "kind": "rare", "look": pages.LOOK}),
        (150, "reference_before", {**everything, "before": NEWEST, "reference": "ref_7"}),
        (150, "archived_before", {}),
    ]
    async with owner_database.connection() as conn:
        for most, name, parameters in questions:
            small, big = [
                await pages_read(conn, name, code=account.code, currency="INR", **parameters)
                for account in (SMALL, BIG)
            ]
            assert big <= most, (name, parameters, big)
            assert most > 150 or big <= small + 20, (name, small, big)
        assert (
            await pages_read(conn, "with_reference", reference="ref_7", before=NEWEST, before_id=UUID(int=0), limit=9)
            < 50
        )
        assert await pages_read(conn, "with_metadata", metadata={"n": "77"}, look=9) < 50


# --- lookups


async def test_a_transaction_is_shown_whole_however_it_is_found(database: Database, past: Past) -> None:
    async with database.connection() as conn:
        newest = await lookup.by_reference(conn, "ref_1", limit=3)
        next_page = await lookup.by_reference(conn, "ref_1", limit=200, before=newest[-1])
        one = newest[0]
        alike = await lookup.by_metadata(conn, one.metadata or {"batch": "1"}, limit=1000)
        again = [await lookup.by_id(conn, one.transaction_id), await lookup.by_key(conn, one.key)]
        nothing = [await lookup.by_key(conn, "none"), *await lookup.by_reference(conn, "", limit=9)]
    assert again == [one, one]
    assert (one in alike) == bool(one.metadata)
    assert len(alike) > 5
    assert nothing == [None]
    expected = {row.transaction_id for row in past.rows if row.reference == "ref_1"}
    found = [*newest, *next_page]
    assert len(found) == len(expected)
    assert [item.recorded_at for item in found] == sorted((item.recorded_at for item in found), reverse=True)
    for item in found:
        assert sum(line.amount for line in item.lines) == 0
        rows = {(row.account, row.sequence): row for row in past.rows}
        for line in item.lines:
            row = rows[line.account, line.sequence]
            assert (line.amount, line.pending_debit, item.recorded_at) == (
                row.amount,
                row.pending_debit,
                row.recorded_at,
            )
        assert (item.hold is not None) == (item.kind in ("hold", "resolution"))


async def test_a_search_that_finds_too_much_is_refused(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "TOO_MANY", 10)
    async with database.connection() as conn:
        with pytest.raises(TooManyFound):
            await lookup.by_metadata(conn, {"batch": "1"}, limit=5)


async def test_a_reversal_is_linked_both_ways_and_holds_tell_what_is_left(database: Database) -> None:
    five, two = Money.parse("5.00", "INR"), Money.parse("2.00", "INR")
    wallet = WALLETS[0]
    async with database.transaction() as conn:
        legs = (journal.debit(CLEARING, five), journal.credit(wallet, five))
        await journal.post(conn, journal.Posting("start", "deposit", "", None, legs))
        first = await journal.post(conn, journal.Posting("p", "deposit", "", None, legs))
        second = await journal.reverse(conn, first.transaction_id, key="r", reference="")
        expires_at = datetime.now(UTC) + timedelta(days=1)
        placed = await journal.place(conn, journal.Hold("h", "hold", "bkg", None, wallet, CLEARING, five, expires_at))
        hold_id = "hld" + placed.transaction_id[3:]
        resolution = journal.Resolution("c", "capture", "bkg", None, hold_id, captured=two)
        captured = await journal.resolve(conn, resolution)
    async with database.connection() as conn:
        original, reversal = [await lookup.by_id(conn, posted.transaction_id) for posted in (first, second)]
        own = await lookup.own_side(conn, wallet, captured.transaction_id)
        stranger = await lookup.own_side(conn, WALLETS[1], captured.transaction_id)
        outgoing = await open_holds.open_holds(conn, wallet, limit=5)
        incoming = await open_holds.open_holds(conn, CLEARING, limit=5)
        earlier = await open_holds.open_holds(conn, wallet, before=outgoing[0].placed_at, limit=5)
    assert original is not None
    assert reversal is not None
    assert (original.reversed_by, reversal.reverses) == (second.transaction_id, first.transaction_id)
    assert own is not None
    assert own.hold is not None
    assert (own.hold.left.wire(), own.hold.captured.wire(), own.entry.amount.wire()) == ("3.00", "2.00", "-2.00")
    assert (own.entry.held.wire(), stranger) == ("-2.00", None)
    assert [(hold.state.hold_id, hold.state.direction, hold.state.left.wire()) for hold in outgoing] == [
        (hold_id, "out", "3.00")
    ]
    assert [(hold.state.direction, hold.reference) for hold in incoming] == [("in", "bkg")]
    assert earlier == []


async def test_the_entries_of_an_archived_transaction_are_not_made_up(
    owner_database: Database, past: Past, tmp_path: Path
) -> None:
    await chain.seal(owner_database)
    await archive.archive(owner_database, months_ago(4).date(), tmp_path, today=LATER)
    row = min(past.of(CLEARING), key=lambda row: row.recorded_at)
    transaction_id = ids.of("txn", row.transaction_id)
    async with owner_database.connection() as conn:
        found = await lookup.by_id(conn, transaction_id)
        with pytest.raises(ArchivedEntries):
            await lookup.own_side(conn, CLEARING, transaction_id)
    assert found is not None
    assert (found.archived, found.lines) == (True, ())
