"""Dividing money exactly: rates in basis points, each share rounded half up to the currency's minor unit.

What is left over is the host's, so that the shares of a settlement always add up to what was divided. Rates are inputs:
law and contract change, the arithmetic does not. Source: docs/adr/0011-chart-of-accounts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.money import Money
from ledger.accounts import Head

BPS = 10_000


class Supply(StrEnum):
    """Where a service goes, which decides the heads of its GST: CGST and SGST at half the rate each, or IGST."""

    INTRA_STATE = "intra_state"
    INTER_STATE = "inter_state"


@dataclass(frozen=True, slots=True)
class Terms:
    """What is taken from a host's money, in basis points (0 to 10,000), and which heads the GST goes to.

    `fee_bps` of the price is our fee, `gst_bps` of the fee is GST on it. `host_gst_bps` is the GST within the host's
    price, 0 for a host without registration; `tds_bps` and `tcs_bps` are of the price without it. `supply` is our
    service to the host, `host_supply` the host's to the player. Raises ValueError for a rate that is none.
    """

    fee_bps: int
    gst_bps: int
    supply: Supply
    host_gst_bps: int
    tds_bps: int
    tcs_bps: int
    host_supply: Supply

    def __post_init__(self) -> None:
        for rate in (self.fee_bps, self.gst_bps, self.host_gst_bps, self.tds_bps, self.tcs_bps):
            _checked(rate)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The shares: net + fee + gst + tds + tcs is what was divided. The two GSTs are by head."""

    net: Money
    fee: Money
    gst: dict[Head, Money]
    tds: Money
    tcs: dict[Head, Money]


def settle(gross: Money, terms: Terms) -> Settlement:
    """Divide what players paid between host, platform and taxes. Raises ValueError when nothing would be left over."""
    fee = share(gross, terms.fee_bps)
    gst = by_rate(fee, terms.gst_bps, terms.supply)
    taxable = Money.from_minor(_divided(gross.minor() * BPS, BPS + terms.host_gst_bps), gross.currency)
    tds = share(taxable, terms.tds_bps)
    tcs = by_rate(taxable, terms.tcs_bps, terms.host_supply)
    taken = total(fee, *gst.values(), tds, *tcs.values())
    if taken.amount > gross.amount:
        raise ValueError("fee and taxes are more than there is to divide")
    return Settlement(less(gross, taken), fee, gst, tds, tcs)


def share(amount: Money, bps: int) -> Money:
    """So many basis points of an amount, half up. Raises ValueError for a rate or an amount below zero."""
    return Money.from_minor(_divided(amount.minor() * _checked(bps), BPS), amount.currency)


def by_rate(base: Money, bps: int, supply: Supply) -> dict[Head, Money]:
    """GST at a rate, by head: CGST and SGST are rounded each for itself and therefore equal, as an invoice has them."""
    if supply is Supply.INTER_STATE:
        return {"igst": share(base, bps)}
    half = Money.from_minor(_divided(base.minor() * _checked(bps), 2 * BPS), base.currency)
    return {"cgst": half, "sgst": half}


def by_head(tax: Money, supply: Supply) -> dict[Head, Money]:
    """GST that somebody else has charged, by head; an odd paisa goes to SGST."""
    if supply is Supply.INTER_STATE:
        return {"igst": tax}
    cgst = Money.from_minor(tax.minor() // 2, tax.currency)
    return {"cgst": cgst, "sgst": less(tax, cgst)}


def total(first: Money, *others: Money) -> Money:
    """The sum. Raises ValueError for different currencies."""
    if any(other.currency != first.currency for other in others):
        raise ValueError("amounts of different currencies do not add up")
    return Money(sum((other.amount for other in others), first.amount), first.currency)


def less(amount: Money, taken: Money) -> Money:
    """The difference. Raises ValueError for different currencies."""
    if amount.currency != taken.currency:
        raise ValueError("amounts of different currencies do not add up")
    return Money(amount.amount - taken.amount, amount.currency)


def _divided(numerator: int, denominator: int) -> int:
    if numerator < 0:
        raise ValueError("what is divided is not below zero")
    return (2 * numerator + denominator) // (2 * denominator)


def _checked(bps: int) -> int:
    if not 0 <= bps <= BPS:
        raise ValueError("a rate is 0 to 10,000 basis points")
    return bps
