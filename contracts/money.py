"""Money: a Decimal and a currency, never a float.

On the wire an amount is a decimal string in plain notation ("500.00"); gateways that count in minor
units get an integer. Exponents: ISO 4217.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

EXPONENTS: dict[str, int] = {"INR": 2}
MAX_INTEGER_DIGITS = 15

_LIMIT = Decimal(10) ** MAX_INTEGER_DIGITS
_QUANTA = {currency: Decimal(1).scaleb(-exponent) for currency, exponent in EXPONENTS.items()}
_AMOUNT = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


class MoneyError(ValueError):
    """An amount that cannot be money; `rule` names the rule it breaks."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount at its currency's exponent. Raises MoneyError when it is not one."""

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Decimal):
            raise TypeError("an amount is a Decimal")
        exponent = _exponent(self.currency)
        if not self.amount.is_finite():
            raise MoneyError("finite", "must be a finite number")
        if not -_LIMIT < self.amount < _LIMIT:
            raise MoneyError("maximum", f"must have at most {MAX_INTEGER_DIGITS} digits before the point")
        quantised = self.amount.quantize(_QUANTA[self.currency])
        if quantised != self.amount:
            raise MoneyError("scale", f"must have at most {exponent} decimal places")
        object.__setattr__(self, "amount", quantised)

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Read the wire form: ASCII digits, no sign, no exponent, no leading zero, no white space."""
        match = _AMOUNT.fullmatch(text)
        if match is None:
            raise MoneyError("decimal", "must be a plain decimal number such as 500.00")
        if len(match[1]) > MAX_INTEGER_DIGITS:
            raise MoneyError("maximum", f"must have at most {MAX_INTEGER_DIGITS} digits before the point")
        if len(match[2] or "") > _exponent(currency):
            raise MoneyError("scale", f"must have at most {_exponent(currency)} decimal places")
        return cls(Decimal(text), currency)

    @classmethod
    def from_minor(cls, minor: int, currency: str) -> Money:
        """Build from an integer count of minor units (paise)."""
        return cls(Decimal(minor).scaleb(-_exponent(currency)), currency)

    def minor(self) -> int:
        """The amount as an integer count of minor units (paise)."""
        return int(self.amount.scaleb(_exponent(self.currency)))

    def wire(self) -> str:
        """The amount as it is written in JSON, always at the currency's exponent."""
        return f"{self.amount:f}"

    def json(self) -> dict[str, str]:
        """The `Money` schema of common.yaml."""
        return {"amount": self.wire(), "currency": self.currency}


def _exponent(currency: str) -> int:
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise MoneyError("currency", "is not a currency that Matchday holds") from None
