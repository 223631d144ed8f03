from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import Money, MoneyError


@pytest.mark.parametrize("text", ["0", "1", "500", "500.0", "500.00", "0.01", "999999999999999.99"])
def test_plain_decimals_are_money(text: str) -> None:
    assert Money.parse(text, "INR").amount == Decimal(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "decimal"),
        ("-1", "decimal"),
        ("+1", "decimal"),
        ("1e3", "decimal"),
        ("١٠", "decimal"),
        ("1_000", "decimal"),
        (" 1", "decimal"),
        ("1 ", "decimal"),
        ("01", "decimal"),
        (".5", "decimal"),
        ("5.", "decimal"),
        ("1,000", "decimal"),
        ("NaN", "decimal"),
        ("Infinity", "decimal"),
        ("1\n", "decimal"),
        ("10.005", "scale"),
        ("1000000000000000", "maximum"),
    ],
)
def test_anything_else_is_refused_by_rule(text: str, rule: str) -> None:
    with pytest.raises(MoneyError) as refusal:
        Money.parse(text, "INR")
    assert refusal.value.rule == rule
    assert text == "" or text not in str(refusal.value)


def test_a_currency_nobody_holds_is_refused() -> None:
    with pytest.raises(MoneyError) as refusal:
        Money.parse("1.00", "EUR")
    assert refusal.value.rule == "currency"


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("Infinity"), Decimal("0.001"), Decimal(10) ** 15])
def test_a_decimal_that_is_no_money_is_refused(amount: Decimal) -> None:
    with pytest.raises(MoneyError):
        Money(amount, "INR")


def test_a_float_is_never_money() -> None:
    with pytest.raises(TypeError):
        Money(500.0, "INR")  # type: ignore[arg-type]


@given(st.integers(min_value=-(10**16), max_value=10**16))
def test_minor_units_and_wire_form_lose_nothing(minor: int) -> None:
    money = Money.from_minor(minor, "INR")
    assert money.minor() == minor
    assert Decimal(money.wire()) == money.amount
    assert money.wire().rpartition(".")[2] == money.wire()[-2:]
