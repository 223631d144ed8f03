"""Recipes of what moves between gateways, rails, banks, the government and the company, and no user sees."""

from __future__ import annotations

from datetime import datetime

from contracts.money import Money
from ledger import accounts
from ledger.accounts import Account
from ledger.journal import Posting
from ledger.recipes import posting
from ledger.split import Supply, by_head, total


def gateway_settlement(
    *,
    gateway: str,
    settlement_id: str,
    bank: str,
    received: Money,
    fee: Money,
    gst: Money,
    supply: Supply,
    bank_reference: str,
    happened_at: datetime,
) -> Posting:
    """A gateway pays what it collected to our bank and keeps its fee and the GST on it.

    `received` is what reaches the bank, `fee` is without GST. Together they are what the gateway owes less.
    """
    return posting(
        "gateway_settlement",
        f"{gateway}:{settlement_id}",
        reference=settlement_id,
        happened_at=happened_at,
        debits={accounts.bank(bank, received.currency): received, **_charge(gateway, fee, gst, supply)},
        credits={accounts.gateway_clearing(gateway, received.currency): total(received, fee, gst)},
        metadata={"gateway": gateway, "bank_reference": bank_reference},
    )


def gateway_charge(
    *, gateway: str, charge_id: str, fee: Money, gst: Money, supply: Supply, happened_at: datetime
) -> Posting:
    """A gateway charges something that belongs to no settlement: a chargeback's fee, a faster refund."""
    return posting(
        "gateway_charge",
        f"{gateway}:{charge_id}",
        reference=charge_id,
        happened_at=happened_at,
        debits=_charge(gateway, fee, gst, supply),
        credits={accounts.gateway_clearing(gateway, fee.currency): total(fee, gst)},
        metadata={"gateway": gateway},
    )


def payout_settled(
    *,
    payout_id: str,
    rail: str,
    bank: str,
    amount: Money,
    fee: Money,
    gst: Money,
    supply: Supply,
    bank_reference: str,
    happened_at: datetime,
) -> Posting:
    """A payout has left our bank, with the rail's fee and the GST on it. Refused when it failed before."""
    return posting(
        "payout_settled",
        payout_id,
        reference=payout_id,
        happened_at=happened_at,
        debits={accounts.payout_transit(rail, payout_id, amount.currency): amount, **_charge(rail, fee, gst, supply)},
        credits={accounts.bank(bank, amount.currency): total(amount, fee, gst)},
        metadata={"bank_reference": bank_reference},
    )


def tax_paid(*, challan_id: str, tax: Account, bank: str, amount: Money, happened_at: datetime) -> Posting:
    """GST, TDS or TCS is paid to the government."""
    return posting(
        "tax_paid",
        f"{challan_id}:{tax.code}",
        reference=challan_id,
        happened_at=happened_at,
        debits={tax: amount},
        credits={accounts.bank(bank, amount.currency): amount},
    )


def input_tax_used(*, return_id: str, payable: Account, paid: Account, amount: Money, happened_at: datetime) -> Posting:
    """GST that we paid (`gst_input`) is set off against GST that we charged (`gst_payable`), as a return declares."""
    return posting(
        "input_tax_used",
        f"{return_id}:{payable.code}:{paid.code}",
        reference=return_id,
        happened_at=happened_at,
        debits={payable: amount},
        credits={paid: amount},
    )


def funded(*, funding_id: str, bank: str, amount: Money, happened_at: datetime) -> Posting:
    """The company puts money of its own in, for promotions and refunds that come before settlements."""
    return posting(
        "funded",
        funding_id,
        reference=funding_id,
        happened_at=happened_at,
        debits={accounts.bank(bank, amount.currency): amount},
        credits={accounts.funding(amount.currency): amount},
    )


def bank_transfer(*, transfer_id: str, source: str, target: str, amount: Money, happened_at: datetime) -> Posting:
    """Money goes from one of our bank accounts to another: earned fees out of the users' account, for one."""
    return posting(
        "bank_transfer",
        transfer_id,
        reference=transfer_id,
        happened_at=happened_at,
        debits={accounts.bank(target, amount.currency): amount},
        credits={accounts.bank(source, amount.currency): amount},
    )


def _charge(by: str, fee: Money, gst: Money, supply: Supply) -> dict[Account, Money]:
    taxes = {accounts.gst_input(head, gst.currency): part for head, part in by_head(gst, supply).items()}
    return {accounts.gateway_fees(by, fee.currency): fee, **taxes}
