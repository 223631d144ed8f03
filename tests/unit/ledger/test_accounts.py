"""The chart of accounts: what is in it, what is refused, and stripes."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from ledger import accounts
from ledger.accounts import CHART, Account, stripe

FEE = accounts.platform_fee("INR")


def test_an_account_is_what_the_chart_says() -> None:
    assert accounts.of("wallet:usr_a", "INR") == Account("wallet:usr_a", "INR", "liability", Decimal(0))
    assert accounts.of("gateway_clearing:razorpay", "INR") == Account("gateway_clearing:razorpay", "INR", "asset")
    assert accounts.of("tds_payable", "INR") == Account("tds_payable", "INR", "liability")


@pytest.mark.parametrize(
    "code",
    [
        "",
        "wallet",
        "wallet:",
        "wallet:a:b",
        "wallet:a:s1",  # a wallet has a floor, hence no stripes
        "wallet:ä",
        "wallet:a\n",
        "wallet:a b",
        "Wallet:a",
        "purse:a",
        "platform_fee:a",
        "platform_fee:s16",
        "platform_fee:s01",
        "platform_fee:s1:s1",
        "gst_payable:vat",
        "gst_payable",
        "refund_clearing:razorpay",
        "refund_clearing:razorpay:a:b",
    ],
)
def test_an_account_outside_the_chart_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="no such account"):
        accounts.of(code, "INR")


def test_an_id_cannot_smuggle_in_another_account() -> None:
    with pytest.raises(ValueError, match="no such account"):
        accounts.wallet("usr_a:s1", "INR")


def test_each_line_of_the_chart_begins_with_its_own_word() -> None:
    assert max(Counter(line.pattern.partition(":")[0] for line in CHART).values()) == 1


def test_what_somebody_may_take_money_from_has_a_floor() -> None:
    """Whatever is owed to one user, or belongs to one fact, cannot be paid out twice."""
    single = {line.pattern for line in CHART if line.kind == "liability" and line.floor is None}
    assert single == {"gst_payable:<cgst/sgst/igst>", "tds_payable", "tcs_payable:<cgst/sgst/igst>"}


def test_stripes_are_off_until_the_chart_declares_them() -> None:
    assert {line.stripes for line in CHART} == {1}
    assert stripe(FEE, "settlement:bkg_1") == FEE


def test_only_what_has_no_limit_may_declare_stripes() -> None:
    assert all(line.stripes == 1 for line in CHART if line.limited)


def test_a_key_always_has_the_same_stripe() -> None:
    # Written down: a stripe that moved would make a repeated posting another one.
    assert [stripe(FEE, key, 16).code for key in ("a", "b", "settlement:bkg_1")] == [
        "platform_fee:s10",
        "platform_fee:s10",
        "platform_fee:s12",
    ]


def test_keys_spread_over_all_stripes() -> None:
    used = Counter(stripe(FEE, f"settlement:bkg_{n}", 16) for n in range(1600))
    assert {account.code for account in used} == {f"platform_fee:s{n}" for n in range(16)}
    assert max(used.values()) < 2 * 100
    assert {accounts.of(account.code, "INR") for account in used} == set(used)


@pytest.mark.parametrize("limits", [{"floor": Decimal(0)}, {"ceiling": Decimal(0)}])
def test_an_account_with_a_limit_is_not_striped(limits: dict[str, Decimal]) -> None:
    with pytest.raises(ValueError, match="with a limit"):
        stripe(Account("platform_fee", "INR", "income", **limits), "a", 16)


@pytest.mark.parametrize("count", [0, -1, 17])
def test_there_are_one_to_sixteen_stripes(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        stripe(FEE, "a", count)


def test_a_stripe_has_no_stripes() -> None:
    with pytest.raises(ValueError, match="no such account"):
        stripe(accounts.of("platform_fee:s10", "INR"), "a", 16)
