"""Every recipe, called with facts made from its own signature; and what single recipes promise."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_type_hints

import pytest

from contracts.money import Money
from ledger import accounts, bookings, recipes, treasury
from ledger.accounts import Account
from ledger.journal import Hold, Posting, Resolution, credit, debit
from ledger.split import Supply, Terms

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)
TERMS = Terms(1000, 1800, Supply.INTRA_STATE, 1800, 10, 50, Supply.INTER_STATE)
RESULTS = (Posting, Hold, Resolution)
KEY = re.compile(r"[!-\[\]-~]{1,200}")


def rupees(text: str) -> Money:
    return Money.parse(text, "INR")


SAMPLES: dict[Any, Callable[[str], Any]] = {
    str: lambda name: f"{name}_1",
    str | None: lambda name: f"{name}_1",
    bool: lambda name: True,
    Money: lambda name: rupees("100.00"),
    datetime: lambda name: NOW,
    Account: lambda name: accounts.wallet(name, "INR"),
    Terms: lambda name: TERMS,
    Supply: lambda name: Supply.INTRA_STATE,
    Mapping[str, Money]: lambda name: {"bkg_1": rupees("100.00"), "bkg_2": rupees("0.05")},
}


def published(module: Any) -> Iterable[Callable[..., Any]]:
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
        if own and function is not recipes.posting:
            yield function


RECIPES = [recipe for module in (recipes, bookings, treasury) for recipe in published(module)]


def sample(recipe: Callable[..., Any], **other: Any) -> list[Posting | Hold | Resolution]:
    hints = get_type_hints(recipe)
    del hints["return"]
    made = recipe(**{name: other.get(name, SAMPLES[kind](name)) for name, kind in hints.items()})
    return [made] if isinstance(made, RESULTS) else list(made)


def legs(posting: Posting) -> dict[str, str]:
    return {leg.account.code: f"{leg.amount:+}" for leg in posting.legs}


def accounts_of(made: Posting | Hold | Resolution) -> list[Account]:
    if isinstance(made, Posting):
        return [leg.account for leg in made.legs]
    return [made.source, made.target] if isinstance(made, Hold) else []


every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)


@every_recipe
def test_its_accounts_are_in_the_chart(recipe: Callable[..., Any]) -> None:
    for made in sample(recipe):
        for account in accounts_of(made):
            assert accounts.of(account.code, "INR") == account


@every_recipe
def test_its_keys_are_made_of_the_facts_own_id(recipe: Callable[..., Any]) -> None:
    keys = [made.key for made in sample(recipe)]
    assert all(KEY.fullmatch(key) for key in keys)
    assert len(set(keys)) == len(keys)
    hints = {name: kind for name, kind in get_type_hints(recipe).items() if name != "return"}
    texts = [name for name, kind in hints.items() if kind is str]
    varied = [name for name in texts if keys != [made.key for made in sample(recipe, **{name: "another"})]]
    assert varied or any(kind == Mapping[str, Money] for kind in hints.values())


@every_recipe
def test_its_kind_is_a_word_and_the_reference_an_id(recipe: Callable[..., Any]) -> None:
    for made in sample(recipe):
        assert re.fullmatch("[a-z_]{1,50}", made.kind)
        assert 0 < len(made.reference) <= 200


@every_recipe
def test_told_again_it_says_the_same(recipe: Callable[..., Any]) -> None:
    for first, again in zip(sample(recipe), sample(recipe), strict=True):
        assert first == again
        if isinstance(first, Posting) and isinstance(again, Posting):
            assert first.fingerprint == again.fingerprint


def test_no_two_recipes_share_a_key() -> None:
    keys = [made.key for recipe in RECIPES for made in sample(recipe)]
    assert len(set(keys)) == len(keys)


def test_a_deposit_is_the_posting_that_it_always_was() -> None:
    """Payments credited by an earlier version are told again after a change of this code."""
    facts = {"user_id": "usr_a", "gateway": "razorpay", "payment_id": "pay_1", "deposit_id": "dep_1"}
    made = recipes.deposit(**facts, amount=rupees("500.00"), happened_at=NOW)
    by_hand = Posting(
        key="deposit:razorpay:pay_1",
        kind="deposit",
        reference="dep_1",
        happened_at=NOW,
        legs=(
            debit(Account("gateway_clearing:razorpay", "INR", "asset"), rupees("500.00")),
            credit(Account("wallet:usr_a", "INR", "liability", Decimal(0)), rupees("500.00")),
        ),
        metadata={"gateway": "razorpay", "payment_id": "pay_1"},
    )
    assert (made, made.fingerprint) == (by_hand, by_hand.fingerprint)


def settle(**other: Any) -> list[Posting]:
    made = bookings.settlement(
        activity_id="act_1",
        host_id="usr_h",
        bookings={"bkg_1": rupees("799.00"), "bkg_2": rupees("799.00")},
        terms=replace(TERMS, host_gst_bps=0, tcs_bps=0, **other),
        happened_at=NOW,
    )
    return list(made)


def test_a_settlement_empties_each_escrow_and_says_by_which_rates() -> None:
    first, second = settle()
    assert (first.key, second.key) == ("settlement:bkg_1", "settlement:bkg_2")
    assert legs(first) == {
        "escrow:bkg_1": "-799.00",
        "host:usr_h": "+703.92",
        "platform_fee": "+79.90",
        "gst_payable:cgst": "+7.19",
        "gst_payable:sgst": "+7.19",
        "tds_payable": "+0.80",
    }
    assert first.metadata["fee_bps"] == "1000"
    assert (first.reference, first.metadata["booking_id"]) == ("act_1", "bkg_1")


def test_a_settlement_across_states_has_igst_and_none_of_the_others() -> None:
    found = legs(settle(supply=Supply.INTER_STATE)[0])
    assert {code: amount for code, amount in found.items() if code.startswith("gst")} == {"gst_payable:igst": "+14.38"}


def cancel(**parts: str) -> Posting:
    money = {name: rupees(parts.get(name, "0.00")) for name in ("refunded", "promotion_returned", "kept")}
    return bookings.cancellation(
        booking_id="bkg_1", user_id="usr_p", host_id="usr_h", **money, terms=TERMS, happened_at=NOW
    )


def test_a_full_refund_pays_nobody_else() -> None:
    assert legs(cancel(refunded="450.00")) == {"escrow:bkg_1": "-450.00", "wallet:usr_p": "+450.00"}


def test_a_cancellation_fee_is_divided_like_a_price() -> None:
    found = legs(cancel(refunded="260.00", promotion_returned="100.00", kept="90.00"))
    assert (found["escrow:bkg_1"], found["wallet:usr_p"], found["promotion_credit:usr_p"]) == (
        "-450.00",
        "+260.00",
        "+100.00",
    )
    assert (found["platform_fee"], found["gst_payable:cgst"], found["tcs_payable:igst"]) == ("+9.00", "+0.81", "+0.38")


def lose(amount: str, held: str, *, withheld: bool = False) -> dict[str, str]:
    return legs(
        recipes.chargeback_lost(
            dispute_id="dsp_1",
            user_id="usr_p",
            gateway="razorpay",
            amount=rupees(amount),
            held=rupees(held),
            withheld=withheld,
            happened_at=NOW,
        )
    )


def test_a_lost_chargeback_takes_what_was_held_and_the_rest_is_owed() -> None:
    assert lose("500.00", "500.00") == {"dispute_held:dsp_1": "-500.00", "gateway_clearing:razorpay": "+500.00"}
    assert lose("500.00", "120.00") == {
        "dispute_held:dsp_1": "-120.00",
        "receivable:usr_p": "-380.00",
        "gateway_clearing:razorpay": "+500.00",
    }
    assert lose("500.00", "0.00", withheld=True) == {
        "receivable:usr_p": "-500.00",
        "gateway_withheld:razorpay:dsp_1": "+500.00",
    }
    assert lose("300.00", "500.00") == {
        "dispute_held:dsp_1": "-500.00",
        "gateway_clearing:razorpay": "+300.00",
        "wallet:usr_p": "+200.00",
    }


def hold(amount: str, promotion: str) -> tuple[Hold, ...]:
    return bookings.held(
        booking_id="bkg_1",
        user_id="usr_p",
        amount=rupees(amount),
        promotion=rupees(promotion),
        expires_at=NOW + timedelta(minutes=10),
        happened_at=NOW,
    )


@pytest.mark.parametrize(
    ("amount", "promotion", "sources"),
    [
        ("300.00", "0.00", ["wallet:usr_p"]),
        ("0.00", "300.00", ["promotion_credit:usr_p"]),
        ("200.00", "100.00", ["wallet:usr_p", "promotion_credit:usr_p"]),
    ],
)
def test_a_booking_is_held_in_the_purses_that_pay_for_it(amount: str, promotion: str, sources: list[str]) -> None:
    holds = hold(amount, promotion)
    assert [made.source.code for made in holds] == sources
    assert {(made.target.code, made.group) for made in holds} == {("escrow:bkg_1", "bkg_1")}
    parts = {
        "booking_id": "bkg_1",
        "amount": rupees(amount),
        "promotion": rupees(promotion),
        "happened_at": NOW,
    }
    placed = [made.posting().hold_id for made in holds]
    for resolve in (bookings.captured, bookings.released):
        assert [made.hold_id for made in resolve(**parts)] == placed  # type: ignore[arg-type]


def test_a_payout_resolves_the_hold_it_placed() -> None:
    held, sent, cancelled = (
        sample(recipe)[0] for recipe in (recipes.payout_held, recipes.payout_sent, recipes.payout_cancelled)
    )
    assert isinstance(held, Hold) and isinstance(sent, Resolution) and isinstance(cancelled, Resolution)
    assert sent.hold_id == cancelled.hold_id == held.posting().hold_id
    assert (sent.captured, cancelled.released) == (held.amount, held.amount)


def test_what_takes_as_much_as_there_is_says_so() -> None:
    wishes = [made for recipe in RECIPES for made in sample(recipe) if isinstance(made, Posting) and made.up_to]
    assert {made.kind for made in wishes} == {"chargeback_opened", "receivable_collected"}


def test_nothing_is_no_posting() -> None:
    with pytest.raises(ValueError, match="two legs"):
        sample(recipes.refund, amount=rupees("0.00"))
    with pytest.raises(ValueError, match="two legs"):
        cancel()


def test_an_account_outside_the_chart_is_refused() -> None:
    with pytest.raises(ValueError, match="no such account"):
        sample(recipes.suspended, source=Account("petty_cash", "INR", "asset"))
