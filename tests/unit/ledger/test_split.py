"""Division of money: nothing is lost, nothing is made, each share is within half a paisa of its rate."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import Money
from ledger.split import Settlement, Supply, Terms, by_head, by_rate, less, settle, share, total

RATE = st.integers(0, 10_000)
MINOR = st.integers(0, 10**17 - 1)
AMOUNT = st.builds(Money.from_minor, st.one_of(st.integers(0, 200), MINOR), st.just("INR"))
SUPPLY = st.sampled_from(Supply)
TERMS = st.builds(Terms, RATE, RATE, SUPPLY, RATE, RATE, RATE, SUPPLY)
LAWFUL = st.builds(
    Terms,
    st.integers(0, 3000),
    st.just(1800),
    SUPPLY,
    st.sampled_from([0, 500, 1800]),
    st.sampled_from([0, 10, 500]),
    st.sampled_from([0, 50]),
    SUPPLY,
)
HALF = Fraction(1, 2)


def rupees(text: str) -> Money:
    return Money.parse(text, "INR")


def terms(**rates: int | Supply) -> Terms:
    usual: dict[str, int | Supply] = {
        "fee_bps": 1000,
        "gst_bps": 1800,
        "supply": Supply.INTRA_STATE,
        "host_gst_bps": 0,
        "tds_bps": 10,
        "tcs_bps": 0,
        "host_supply": Supply.INTRA_STATE,
    }
    return Terms(**{**usual, **rates})  # type: ignore[arg-type]


def shares(found: Settlement) -> list[Money]:
    return [found.net, found.fee, *found.gst.values(), found.tds, *found.tcs.values()]


def exact(gross: Money, rates: Terms) -> Fraction:
    """What the rates take of an amount, in paise, without any rounding."""
    fee = Fraction(gross.minor() * rates.fee_bps, 10_000)
    taxable = Fraction(gross.minor() * 10_000, 10_000 + rates.host_gst_bps)
    return fee * (1 + Fraction(rates.gst_bps, 10_000)) + taxable * Fraction(rates.tds_bps + rates.tcs_bps, 10_000)


@given(AMOUNT, TERMS)
def test_the_shares_are_what_was_divided_whatever_the_rates(gross: Money, rates: Terms) -> None:
    try:
        found = settle(gross, rates)
    except ValueError:
        # Refused only when the rates leave nothing: eight roundings of half a paisa are all that may be between.
        assert exact(gross, rates) > gross.minor() - 4
        return
    assert total(*shares(found)) == gross
    assert all(part.amount >= 0 for part in shares(found))
    assert abs(gross.minor() - found.net.minor() - exact(gross, rates)) < 4


@given(AMOUNT, LAWFUL)
def test_with_rates_as_they_are_a_host_is_always_paid(gross: Money, rates: Terms) -> None:
    found = settle(gross, rates)
    assert total(*shares(found)) == gross
    assert found.net.amount > 0 or gross.minor() < 10


@given(AMOUNT, RATE)
def test_a_share_is_rounded_half_up(amount: Money, bps: int) -> None:
    paise = Fraction(amount.minor() * bps, 10_000)
    assert -HALF < paise - share(amount, bps).minor() < HALF or share(amount, bps).minor() == paise + HALF


@pytest.mark.parametrize(
    ("amount", "bps", "expected"),
    [
        ("0.05", 1000, "0.01"),
        ("0.04", 1000, "0.00"),
        ("0.15", 1000, "0.02"),
        ("799.00", 10, "0.80"),
        ("1.00", 0, "0.00"),
    ],
)
def test_half_a_paisa_becomes_one(amount: str, bps: int, expected: str) -> None:
    assert share(rupees(amount), bps) == rupees(expected)


@given(AMOUNT, RATE)
def test_cgst_and_sgst_are_equal_and_within_a_paisa_of_igst(base: Money, bps: int) -> None:
    halves = by_rate(base, bps, Supply.INTRA_STATE)
    (igst,) = by_rate(base, bps, Supply.INTER_STATE).values()
    assert halves["cgst"] == halves["sgst"]
    assert abs(total(*halves.values()).minor() - igst.minor()) <= 1


@given(AMOUNT, SUPPLY)
def test_tax_that_somebody_charged_is_kept_to_the_paisa(tax: Money, supply: Supply) -> None:
    assert total(*by_head(tax, supply).values()) == tax


def test_a_settlement_in_numbers() -> None:
    found = settle(rupees("799.00"), terms())
    assert [part.wire() for part in shares(found)] == ["703.92", "79.90", "7.19", "7.19", "0.80", "0.00", "0.00"]


def test_a_registered_hosts_taxes_are_on_the_price_without_its_gst() -> None:
    found = settle(rupees("1180.00"), terms(host_gst_bps=1800, tcs_bps=50, host_supply=Supply.INTER_STATE))
    assert (found.tds, found.tcs) == (rupees("1.00"), {"igst": rupees("5.00")})
    assert (found.fee, found.net) == (rupees("118.00"), rupees("1034.76"))


def test_a_fee_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="more than there is"):
        settle(rupees("100.00"), terms(fee_bps=9000))


@pytest.mark.parametrize("rate", ["fee_bps", "gst_bps", "host_gst_bps", "tds_bps", "tcs_bps"])
@pytest.mark.parametrize("bps", [-1, 10_001])
def test_a_rate_is_between_nothing_and_all(rate: str, bps: int) -> None:
    with pytest.raises(ValueError, match="basis points"):
        terms(**{rate: bps})


def test_a_debt_is_not_divided() -> None:
    with pytest.raises(ValueError, match="below zero"):
        settle(Money.from_minor(-1, "INR"), terms())


def test_amounts_add_and_subtract() -> None:
    assert total(rupees("1.00"), rupees("2.05")) == rupees("3.05")
    assert less(rupees("1.00"), rupees("2.05")) == Money.from_minor(-105, "INR")
