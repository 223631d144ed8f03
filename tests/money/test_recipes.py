"""Recipes on a real database: stories of money that goes wrong, and races that only one side wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from contracts.money import Money
from ledger import accounts, balances, bookings, checks, journal, recipes, treasury
from ledger.accounts import Account
from ledger.journal import Hold, Posted, Posting, Resolution, credit, debit
from ledger.refusals import HoldResolved, InsufficientFunds, NothingAvailable
from ledger.split import Supply, Terms
from storage.db import Database

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=300)
TERMS = Terms(1000, 1800, Supply.INTRA_STATE, 0, 10, 0, Supply.INTRA_STATE)
WALLET, HOST, OWED = (account("usr_p", "INR") for account in (accounts.wallet, accounts.host, accounts.receivable))
CREDIT = accounts.promotion_credit("usr_p", "INR")
CLEARING = accounts.gateway_clearing("razorpay", "INR")
WITHHELD = accounts.gateway_withheld("razorpay", "dsp_1", "INR")
DISPUTE = {"dispute_id": "dsp_1", "user_id": "usr_p", "gateway": "razorpay"}

Fact = Posting | Hold | Resolution


def rupees(text: str) -> Money:
    return Money.parse(text, "INR")


async def tell(database: Database, *facts: Fact) -> tuple[Posted, ...]:
    """Post what recipes made, all of it or nothing."""
    async with database.transaction() as conn:
        postings = []
        for fact in facts:
            if isinstance(fact, Resolution):
                fact = await journal.resolving(conn, fact)
            postings.append(fact.posting() if isinstance(fact, Hold) else fact)
        return await journal.post_linked(conn, postings)


async def standing(database: Database, *of: Account) -> list[str]:
    async with database.connection() as conn:
        return [(await balances.balance(conn, account)).posted.wire() for account in of]


@pytest.fixture(autouse=True)
async def books_are_right(database: Database) -> AsyncIterator[None]:
    yield
    async with database.connection() as conn:
        assert await checks.violations(conn) == []


def paid(payment: str, amount: str) -> Posting:
    return recipes.deposit(
        user_id="usr_p",
        gateway="razorpay",
        payment_id=payment,
        deposit_id=f"dep_{payment}",
        amount=rupees(amount),
        happened_at=NOW,
    )


def held(booking: str, amount: str, promotion: str = "0.00") -> tuple[Hold, ...]:
    return bookings.held(
        booking_id=booking,
        user_id="usr_p",
        amount=rupees(amount),
        promotion=rupees(promotion),
        expires_at=LATER,
        happened_at=NOW,
    )


def confirmed(booking: str, amount: str, promotion: str = "0.00") -> tuple[Resolution, ...]:
    return bookings.captured(booking_id=booking, amount=rupees(amount), promotion=rupees(promotion), happened_at=NOW)


async def booked(database: Database, booking: str, amount: str, promotion: str = "0.00") -> None:
    await tell(database, *held(booking, amount, promotion))
    await tell(database, *confirmed(booking, amount, promotion))


def settled(**amounts: str) -> tuple[Posting, ...]:
    money = {booking: rupees(amount) for booking, amount in amounts.items()}
    return bookings.settlement(activity_id="act_1", host_id="usr_p", bookings=money, terms=TERMS, happened_at=NOW)


def cancelled(booking: str, refunded: str, kept: str = "0.00", promotion: str = "0.00") -> Posting:
    return bookings.cancellation(
        booking_id=booking,
        user_id="usr_p",
        host_id="usr_p",
        refunded=rupees(refunded),
        promotion_returned=rupees(promotion),
        kept=rupees(kept),
        terms=TERMS,
        happened_at=NOW,
    )


def opened(amount: str) -> Posting:
    return recipes.chargeback_opened(**DISPUTE, payment_id="pay_1", amount=rupees(amount), happened_at=NOW)


def lost(amount: str, held: Money, *, withheld: bool) -> Posting:
    return recipes.chargeback_lost(**DISPUTE, amount=rupees(amount), held=held, withheld=withheld, happened_at=NOW)


def collected(collection: str, amount: str) -> Posting:
    return recipes.receivable_collected(
        collection_id=collection,
        source=WALLET,
        user_id="usr_p",
        amount=rupees(amount),
        reference="dsp_1",
        happened_at=NOW,
    )


async def test_a_chargeback_of_money_that_was_spent_is_owed_collected_and_written_off(database: Database) -> None:
    await tell(database, paid("pay_1", "500.00"))
    await booked(database, "bkg_1", "380.00")
    (open_dispute,) = await tell(database, opened("500.00"))
    taken = open_dispute.line(accounts.dispute_held("dsp_1", "INR")).available
    assert taken == rupees("120.00")
    kept_back = recipes.chargeback_withheld(
        dispute_id="dsp_1", gateway="razorpay", amount=rupees("500.00"), happened_at=NOW
    )
    await tell(database, kept_back)
    assert await standing(database, WALLET, CLEARING, WITHHELD) == ["0.00", "0.00", "500.00"]
    await tell(database, lost("500.00", taken, withheld=True))
    assert await standing(database, WITHHELD, OWED, accounts.dispute_held("dsp_1", "INR")) == ["0.00", "380.00", "0.00"]
    await tell(database, paid("pay_2", "200.00"))
    await tell(database, collected("1", "380.00"))
    assert await standing(database, WALLET, OWED) == ["0.00", "180.00"]
    with pytest.raises(NothingAvailable):
        await tell(database, collected("2", "180.00"))
    loss = recipes.receivable_written_off(
        write_off_id="wof_1", user_id="usr_p", amount=rupees("180.00"), reason="gone", approved_by="f", happened_at=NOW
    )
    await tell(database, loss)
    assert await standing(database, OWED, accounts.bad_debts("INR")) == ["0.00", "180.00"]


async def test_a_dispute_told_again_after_a_new_deposit_takes_nothing_more(database: Database) -> None:
    await tell(database, paid("pay_1", "100.00"))
    await tell(database, opened("300.00"))
    await tell(database, paid("pay_2", "300.00"))
    (again,) = await tell(database, opened("300.00"))
    assert (again.replayed, again.line(WALLET).amount) == (True, Decimal("-100.00"))
    assert await standing(database, WALLET) == ["300.00"]


async def test_a_dispute_with_an_empty_wallet_takes_nothing_and_can_be_lost(database: Database) -> None:
    await tell(database, paid("pay_1", "300.00"))
    await booked(database, "bkg_1", "300.00")
    with pytest.raises(NothingAvailable):
        await tell(database, opened("300.00"))
    await tell(database, lost("300.00", rupees("0.00"), withheld=False))
    assert await standing(database, OWED, CLEARING) == ["300.00", "0.00"]


async def test_a_dispute_that_is_won_gives_back_what_was_held(database: Database) -> None:
    await tell(database, paid("pay_1", "300.00"))
    await tell(database, opened("300.00"))
    parts = {"dispute_id": "dsp_1", "gateway": "razorpay", "amount": rupees("300.00"), "happened_at": NOW}
    await tell(database, recipes.chargeback_withheld(**parts))  # type: ignore[arg-type]
    won = recipes.chargeback_won(dispute_id="dsp_1", user_id="usr_p", held=rupees("300.00"), happened_at=NOW)
    await tell(database, won, recipes.chargeback_returned(**parts))  # type: ignore[arg-type]
    assert await standing(database, WALLET, CLEARING, WITHHELD) == ["300.00", "300.00", "0.00"]
    with pytest.raises(InsufficientFunds):
        await tell(database, lost("300.00", rupees("300.00"), withheld=False))


async def test_a_refund_that_nobody_asked_for_is_taken_from_the_wallet_as_far_as_it_goes(database: Database) -> None:
    await tell(database, paid("pay_1", "500.00"))
    await booked(database, "bkg_1", "350.00")
    unasked = recipes.refund_unasked(
        gateway="razorpay",
        gateway_refund_id="rfnd_1",
        user_id="usr_p",
        payment_id="pay_1",
        amount=rupees("500.00"),
        happened_at=NOW,
    )
    await tell(database, unasked)
    await tell(database, collected("rfnd_1", "500.00"))
    assert await standing(database, WALLET, OWED, CLEARING) == ["0.00", "350.00", "0.00"]


def refund(amount: str) -> Posting:
    return recipes.refund(
        refund_id="rfd_1",
        user_id="usr_p",
        gateway="razorpay",
        payment_id="pay_1",
        amount=rupees(amount),
        happened_at=NOW,
    )


def refund_failed(amount: str) -> Posting:
    return recipes.refund_failed(
        refund_id="rfd_1", user_id="usr_p", gateway="razorpay", amount=rupees(amount), happened_at=NOW
    )


def refund_processed(amount: str) -> Posting:
    return recipes.refund_processed(refund_id="rfd_1", gateway="razorpay", amount=rupees(amount), happened_at=NOW)


async def test_a_refund_that_failed_is_wallet_money_again_and_cannot_be_processed(database: Database) -> None:
    await tell(database, paid("pay_1", "500.00"))
    await tell(database, refund("200.00"))
    await tell(database, refund_failed("200.00"))
    with pytest.raises(InsufficientFunds):
        await tell(database, refund_processed("200.00"))
    assert await standing(database, WALLET, CLEARING) == ["500.00", "500.00"]


async def test_a_refund_is_no_more_than_the_wallet_has(database: Database) -> None:
    await tell(database, paid("pay_1", "500.00"))
    with pytest.raises(InsufficientFunds):
        await tell(database, refund("500.01"))


async def earn(database: Database) -> str:
    """A host with earnings; how much."""
    await tell(database, paid("pay_1", "1000.00"))
    await booked(database, "bkg_1", "1000.00")
    await tell(database, *settled(bkg_1="1000.00"))
    (earned,) = await standing(database, HOST)
    return earned


def payout(amount: str) -> tuple[Hold, Resolution, Resolution]:
    money = rupees(amount)
    return (
        recipes.payout_held(
            payout_id="pyo_1", source=HOST, rail="razorpayx", amount=money, expires_at=LATER, happened_at=NOW
        ),
        recipes.payout_sent(payout_id="pyo_1", amount=money, happened_at=NOW),
        recipes.payout_cancelled(payout_id="pyo_1", amount=money, happened_at=NOW),
    )


def payout_failed(amount: str) -> Posting:
    return recipes.payout_failed(
        payout_id="pyo_1", source=HOST, rail="razorpayx", amount=rupees(amount), happened_at=NOW
    )


def payout_settled(amount: str) -> Posting:
    return treasury.payout_settled(
        payout_id="pyo_1",
        rail="razorpayx",
        bank="users",
        amount=rupees(amount),
        fee=rupees("5.00"),
        gst=rupees("0.91"),
        supply=Supply.INTRA_STATE,
        bank_reference="UTR1",
        happened_at=NOW,
    )


async def test_a_payout_that_was_sent_cannot_be_cancelled_and_comes_back_when_it_fails(database: Database) -> None:
    earned = await earn(database)
    hold, sent, cancelled = payout(earned)
    await tell(database, hold)
    await tell(database, sent)
    with pytest.raises(HoldResolved):
        await tell(database, cancelled)
    await tell(database, payout_failed(earned))
    with pytest.raises(InsufficientFunds):
        await tell(database, payout_settled(earned))
    assert await standing(database, HOST) == [earned]


async def test_a_payout_that_was_cancelled_cannot_be_sent(database: Database) -> None:
    earned = await earn(database)
    hold, sent, cancelled = payout(earned)
    await tell(database, hold)
    await tell(database, cancelled)
    with pytest.raises(HoldResolved):
        await tell(database, sent)


async def test_a_payout_that_came_back_to_our_bank_is_the_hosts_again(database: Database) -> None:
    earned = await earn(database)
    hold, sent, _ = payout(earned)
    await tell(database, hold)
    await tell(database, sent)
    await tell(database, payout_settled(earned))
    back = recipes.payout_reversed(payout_id="pyo_1", source=HOST, bank="users", amount=rupees(earned), happened_at=NOW)
    await tell(database, back)
    taxes = [accounts.gst_input(head, "INR") for head in ("cgst", "sgst")]
    assert await standing(database, HOST, accounts.bank("users", "INR"), *taxes) == [earned, "-5.91", "0.45", "0.46"]


def granted(amount: str) -> Posting:
    return recipes.promotion_granted(
        grant_id="prm_1", user_id="usr_p", campaign="monsoon", amount=rupees(amount), happened_at=NOW
    )


def expired(amount: str) -> Posting:
    return recipes.promotion_expired(
        grant_id="prm_1", user_id="usr_p", campaign="monsoon", amount=rupees(amount), happened_at=NOW
    )


async def test_promotion_credit_goes_back_to_where_it_came_from_and_never_into_the_wallet(database: Database) -> None:
    await tell(database, paid("pay_1", "500.00"), granted("100.00"))
    await tell(database, *held("bkg_1", "200.00", "100.00"))
    with pytest.raises(InsufficientFunds):
        await tell(database, expired("100.00"))
    given_up = bookings.released(
        booking_id="bkg_1", amount=rupees("200.00"), promotion=rupees("100.00"), happened_at=NOW
    )
    await tell(database, *given_up)
    await booked(database, "bkg_2", "200.00", "100.00")
    assert await standing(database, WALLET, CREDIT, accounts.escrow("bkg_2", "INR")) == ["300.00", "0.00", "300.00"]
    await tell(database, cancelled("bkg_2", "180.00", kept="60.00", promotion="60.00"))
    await tell(database, expired("60.00"))
    assert await standing(database, WALLET, CREDIT, accounts.promotions("INR")) == ["480.00", "0.00", "40.00"]


async def test_a_host_is_paid_for_a_whole_activity_or_not_yet(database: Database) -> None:
    await tell(database, paid("pay_1", "900.00"))
    for booking in ("bkg_1", "bkg_2", "bkg_3"):
        await booked(database, booking, "300.00")
    await tell(database, cancelled("bkg_2", "300.00"))
    with pytest.raises(InsufficientFunds):
        await tell(database, *settled(bkg_1="300.00", bkg_2="300.00", bkg_3="300.00"))
    assert await standing(database, HOST, accounts.escrow("bkg_1", "INR")) == ["0.00", "300.00"]
    await tell(database, *settled(bkg_1="300.00", bkg_3="300.00"))
    assert await standing(database, accounts.escrow("bkg_1", "INR"), accounts.escrow("bkg_3", "INR")) == ["0.00"] * 2


async def test_money_of_one_booking_never_pays_for_another(database: Database) -> None:
    await tell(database, paid("pay_1", "600.00"))
    await booked(database, "bkg_1", "300.00")
    await booked(database, "bkg_2", "300.00")
    with pytest.raises(InsufficientFunds):
        await tell(database, cancelled("bkg_1", "300.01"))


async def test_suspended_money_finds_its_owner_once(database: Database) -> None:
    arrival = recipes.suspended(item_id="sus_1", source=CLEARING, amount=rupees("70.00"), happened_at=NOW)
    await tell(database, arrival)
    for number, outcome in (("1", None), ("2", InsufficientFunds)):
        found = recipes.suspense_resolved(
            resolution_id=number,
            item_id="sus_1",
            target=WALLET,
            amount=rupees("70.00"),
            approved_by="f",
            happened_at=NOW,
        )
        if outcome is None:
            await tell(database, found)
        else:
            with pytest.raises(outcome):
                await tell(database, found)
    assert await standing(database, WALLET) == ["70.00"]


async def test_taxes_are_set_off_and_paid_and_the_company_moves_its_own(database: Database) -> None:
    await tell(database, paid("pay_1", "1000.00"))
    await booked(database, "bkg_1", "1000.00")
    await tell(database, *settled(bkg_1="1000.00"))
    gateway = treasury.gateway_settlement(
        gateway="razorpay",
        settlement_id="setl_1",
        bank="users",
        received=rupees("975.99"),
        fee=rupees("20.00"),
        gst=rupees("3.61"),
        supply=Supply.INTRA_STATE,
        bank_reference="UTR1",
        happened_at=NOW,
    )
    charge = treasury.gateway_charge(
        gateway="razorpay",
        charge_id="adj_1",
        fee=rupees("0.40"),
        gst=rupees("0.00"),
        supply=Supply.INTRA_STATE,
        happened_at=NOW,
    )
    await tell(database, gateway, charge)
    payable, paid_before = (account("cgst", "INR") for account in (accounts.gst_payable, accounts.gst_input))
    off = treasury.input_tax_used(
        return_id="2026_10", payable=payable, paid=paid_before, amount=rupees("1.80"), happened_at=NOW
    )
    await tell(database, off)
    for tax, amount in ((payable, "7.20"), (accounts.tds_payable("INR"), "1.00")):
        challan = treasury.tax_paid(challan_id="chl_1", tax=tax, bank="users", amount=rupees(amount), happened_at=NOW)
        await tell(database, challan)
    await tell(
        database,
        treasury.funded(funding_id="fnd_1", bank="company", amount=rupees("50.00"), happened_at=NOW),
        treasury.bank_transfer(
            transfer_id="btr_1", source="users", target="company", amount=rupees("80.00"), happened_at=NOW
        ),
    )
    banks = [accounts.bank(name, "INR") for name in ("users", "company")]
    assert await standing(database, CLEARING, payable, paid_before, *banks) == [
        "0.00",
        "0.00",
        "0.00",
        "887.79",
        "130.00",
    ]


Race = tuple[Callable[[Database], Awaitable[object]], Sequence[Fact], Sequence[Fact]]


async def refund_under_way(database: Database) -> None:
    await tell(database, paid("pay_1", "300.00"))
    await tell(database, refund("300.00"))


async def payout_under_way(database: Database) -> None:
    earned = await earn(database)
    assert earned == "881.00"
    hold, sent, _ = payout(earned)
    await tell(database, hold)
    await tell(database, sent)


async def booking_confirmed(database: Database) -> None:
    await tell(database, paid("pay_1", "300.00"))
    await booked(database, "bkg_1", "300.00")


RACES: dict[str, Race] = {
    "refund": (refund_under_way, [refund_processed("300.00")], [refund_failed("300.00")]),
    "payout": (payout_under_way, [payout_settled("881.00")], [payout_failed("881.00")]),
    "booking": (booking_confirmed, settled(bkg_1="300.00"), [cancelled("bkg_1", "270.00", kept="30.00")]),
}


@pytest.mark.parametrize("race", RACES.values(), ids=RACES)
async def test_of_two_ends_told_at_once_one_happens(database: Database, race: Race) -> None:
    before, one, other = race
    await before(database)
    ends = [tell(database, *facts) for facts in (one, other) * 5]
    results = await asyncio.gather(*ends, return_exceptions=True)
    happened = {bool(n % 2) for n, result in enumerate(results) if not isinstance(result, BaseException)}
    assert len(happened) == 1
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(result, InsufficientFunds) for result in refused)
    assert len(refused) == 5


async def test_sixteen_stripes_add_up_and_a_repeat_finds_its_own(database: Database) -> None:
    """What a stripe count of 16 in the chart would do to every posting that credits our fee."""
    await tell(database, paid("pay_1", "1000.00"))

    def charge(number: int) -> Posting:
        key, amount = f"fee:{number}", rupees("2.50")
        fee = accounts.stripe(accounts.platform_fee("INR"), key, 16)
        return Posting(key, "fee", "", NOW, (debit(WALLET, amount), credit(fee, amount)))

    for replayed in (False, True):
        results = await asyncio.gather(*(tell(database, charge(number)) for number in range(200)))
        assert {posted.replayed for (posted,) in results} == {replayed}
    stripes = [accounts.of(f"platform_fee:s{number}", "INR") for number in range(16)]
    found = [Decimal(amount) for amount in await standing(database, *stripes)]
    assert (sum(found), min(found) > 0) == (Decimal("500.00"), True)
    assert await standing(database, WALLET) == ["500.00"]
