"""Recipes of bookings: a seat is held, paid into escrow, and settled or cancelled.

wallet, promotion credit ──held──▶ escrow of the booking ──settlement──▶ host, fee, GST, TDS, TCS
                         ◀─released─                     ──cancellation─▶ the player, and the host for what is kept
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from contracts import ids
from contracts.money import Money
from ledger import accounts, split
from ledger.accounts import Account
from ledger.journal import Hold, Posting, Resolution
from ledger.recipes import posting
from ledger.split import Terms, total


def held(
    *, booking_id: str, user_id: str, amount: Money, promotion: Money, expires_at: datetime, happened_at: datetime
) -> tuple[Hold, ...]:
    """A seat is taken: `amount` of the wallet and `promotion` of the player's credit are set aside for it.

    One of them may be zero. Post them as a linked set; they are one group, the booking's.
    """
    purses = {
        "wallet": (accounts.wallet(user_id, amount.currency), amount),
        "promotion": (accounts.promotion_credit(user_id, promotion.currency), promotion),
    }
    return tuple(
        Hold(
            f"booking_held:{booking_id}:{purse}",
            "booking_held",
            booking_id,
            happened_at,
            source,
            accounts.escrow(booking_id, part.currency),
            part,
            expires_at,
            group=booking_id,
        )
        for purse, (source, part) in purses.items()
        if part.amount
    )


def captured(*, booking_id: str, amount: Money, promotion: Money, happened_at: datetime) -> tuple[Resolution, ...]:
    """A booking is confirmed: what was held is now in escrow. Post them as a linked set."""
    return tuple(
        Resolution(f"booking_captured:{hold}", "booking_captured", booking_id, happened_at, hold_id, captured=part)
        for hold, hold_id, part in _holds(booking_id, amount, promotion)
    )


def released(*, booking_id: str, amount: Money, promotion: Money, happened_at: datetime) -> tuple[Resolution, ...]:
    """A booking is given up before it is confirmed: what was held goes back. Post them as a linked set."""
    return tuple(
        Resolution(f"booking_released:{hold}", "booking_released", booking_id, happened_at, hold_id, released=part)
        for hold, hold_id, part in _holds(booking_id, amount, promotion)
    )


def settlement(
    *, activity_id: str, host_id: str, bookings: Mapping[str, Money], terms: Terms, happened_at: datetime
) -> tuple[Posting, ...]:
    """An activity took place: what is in escrow for its bookings is divided between host, platform and taxes.

    `bookings` is what each has in escrow. Post them as a linked set: a host is paid for the whole activity, or not yet.
    Raises ValueError when terms take more than there is.
    """
    return tuple(
        posting(
            "settlement",
            booking_id,
            reference=activity_id,
            happened_at=happened_at,
            debits={accounts.escrow(booking_id, gross.currency): gross},
            credits=_shares(host_id, gross, terms),
            metadata={"booking_id": booking_id, "host_id": host_id, **_rates(terms)},
        )
        for booking_id, gross in bookings.items()
    )


def cancellation(
    *,
    booking_id: str,
    user_id: str,
    host_id: str,
    refunded: Money,
    promotion_returned: Money,
    kept: Money,
    terms: Terms,
    happened_at: datetime,
) -> Posting:
    """A confirmed booking is cancelled: part goes back to wallet and promotion credit, the rest is `kept`.

    What is kept is the host's compensation and is divided as the price would have been. The three are all that is in
    escrow for the booking; any may be zero.
    """
    currency = kept.currency
    return posting(
        "cancellation",
        booking_id,
        reference=booking_id,
        happened_at=happened_at,
        debits={accounts.escrow(booking_id, currency): total(refunded, promotion_returned, kept)},
        credits={
            accounts.wallet(user_id, currency): refunded,
            accounts.promotion_credit(user_id, currency): promotion_returned,
            **_shares(host_id, kept, terms),
        },
        metadata={"host_id": host_id, **_rates(terms)},
    )


def _holds(booking_id: str, amount: Money, promotion: Money) -> list[tuple[str, str, Money]]:
    holds = [(f"{booking_id}:wallet", amount), (f"{booking_id}:promotion", promotion)]
    return [(hold, ids.derived("hld", f"booking_held:{hold}"), part) for hold, part in holds if part.amount]


def _shares(host_id: str, gross: Money, terms: Terms) -> dict[Account, Money]:
    shares, currency = split.settle(gross, terms), gross.currency
    return {
        accounts.host(host_id, currency): shares.net,
        accounts.platform_fee(currency): shares.fee,
        **{accounts.gst_payable(head, currency): tax for head, tax in shares.gst.items()},
        accounts.tds_payable(currency): shares.tds,
        **{accounts.tcs_payable(head, currency): tax for head, tax in shares.tcs.items()},
    }


def _rates(terms: Terms) -> dict[str, str]:
    """For whoever computes a settlement again."""
    return {
        "fee_bps": str(terms.fee_bps),
        "gst_bps": str(terms.gst_bps),
        "host_gst_bps": str(terms.host_gst_bps),
        "tds_bps": str(terms.tds_bps),
        "tcs_bps": str(terms.tcs_bps),
    }
