"""Postings by the name of what happened: pure functions from facts to legs. Users' money is here.

What happens to bookings is in `bookings`, what happens between gateways, banks and the government in `treasury`. A
posting's key is made of its kind and the fact's own id, so that a fact is booked once whoever tells of it, and every
part of it comes from the fact, never from the clock or a balance, so that whoever tells again says the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from contracts import ids
from contracts.money import Money
from ledger import accounts
from ledger.accounts import Account
from ledger.journal import Hold, Posting, Resolution, credit, debit
from ledger.split import less

ZERO = Decimal(0)


def posting(
    kind: str,
    fact: str,
    *,
    reference: str,
    happened_at: datetime,
    debits: Mapping[Account, Money],
    credits: Mapping[Account, Money],
    up_to: bool = False,
    metadata: dict[str, str] | None = None,
) -> Posting:
    """A posting under the key `kind:fact`. A side of zero is left out; accounts are striped as the chart says.

    Raises ValueError for an account that is not in the chart.
    """
    key = f"{kind}:{fact}"
    legs = [debit(_charted(account, key), amount) for account, amount in debits.items() if amount.amount]
    legs += [credit(_charted(account, key), amount) for account, amount in credits.items() if amount.amount]
    return Posting(key, kind, reference, happened_at, tuple(legs), metadata or {}, up_to=up_to)


def _charted(account: Account, key: str) -> Account:
    account = accounts.of(account.code, account.currency)
    limited = account.floor is not None or account.ceiling is not None
    return account if limited else accounts.stripe(account, key)


def deposit(
    *, user_id: str, gateway: str, payment_id: str, deposit_id: str, amount: Money, happened_at: datetime
) -> Posting:
    """A captured payment becomes wallet money: the gateway owes us, we owe the user.

    The key is the gateway's payment id, so that a payment is credited once whoever tells of it first.
    """
    return posting(
        "deposit",
        f"{gateway}:{payment_id}",
        reference=deposit_id,
        happened_at=happened_at,
        debits={accounts.gateway_clearing(gateway, amount.currency): amount},
        credits={accounts.wallet(user_id, amount.currency): amount},
        metadata={"gateway": gateway, "payment_id": payment_id},
    )


def transfer(*, sender: str, receiver: str, request_key: str, amount: Money, note: str | None) -> Posting:
    """Wallet money of one user becomes that of another.

    The key is the sender's own key for the request, so that a request repeated is a transfer made once. The reference
    is the transfer's id: it follows from the key, as the transaction's does, and differs from that in the prefix only.
    """
    key = f"transfer:{sender}:{hashlib.sha256(request_key.encode()).hexdigest()}"
    return Posting(
        key=key,
        kind="transfer",
        reference=ids.derived("trf", key),
        happened_at=None,
        legs=(
            debit(accounts.wallet(sender, amount.currency), amount),
            credit(accounts.wallet(receiver, amount.currency), amount),
        ),
        metadata={} if note is None else {"note": note},
    )


def refund(
    *, refund_id: str, user_id: str, gateway: str, payment_id: str, amount: Money, happened_at: datetime
) -> Posting:
    """Wallet money is to go back to where it was paid from, all of the payment or a part. Post it before asking."""
    return posting(
        "refund",
        refund_id,
        reference=refund_id,
        happened_at=happened_at,
        debits={accounts.wallet(user_id, amount.currency): amount},
        credits={accounts.refund_clearing(gateway, refund_id, amount.currency): amount},
        metadata={"gateway": gateway, "payment_id": payment_id},
    )


def refund_processed(*, refund_id: str, gateway: str, amount: Money, happened_at: datetime) -> Posting:
    """The gateway has sent a refund to the payer, and owes us so much less."""
    return posting(
        "refund_processed",
        refund_id,
        reference=refund_id,
        happened_at=happened_at,
        debits={accounts.refund_clearing(gateway, refund_id, amount.currency): amount},
        credits={accounts.gateway_clearing(gateway, amount.currency): amount},
    )


def refund_failed(*, refund_id: str, user_id: str, gateway: str, amount: Money, happened_at: datetime) -> Posting:
    """The gateway could not send a refund: it is wallet money again. Refused when it was processed before."""
    return posting(
        "refund_failed",
        refund_id,
        reference=refund_id,
        happened_at=happened_at,
        debits={accounts.refund_clearing(gateway, refund_id, amount.currency): amount},
        credits={accounts.wallet(user_id, amount.currency): amount},
    )


def refund_unasked(
    *, gateway: str, gateway_refund_id: str, user_id: str, payment_id: str, amount: Money, happened_at: datetime
) -> Posting:
    """A payer got money back that we did not send, by the gateway's dashboard for one: the user owes it to us.

    It happened, whatever is in the wallet. Post `receivable_collected` next, which takes what is there.
    """
    return posting(
        "refund_unasked",
        f"{gateway}:{gateway_refund_id}",
        reference=gateway_refund_id,
        happened_at=happened_at,
        debits={accounts.receivable(user_id, amount.currency): amount},
        credits={accounts.gateway_clearing(gateway, amount.currency): amount},
        metadata={"gateway": gateway, "payment_id": payment_id},
    )


def receivable_collected(
    *, collection_id: str, source: Account, user_id: str, amount: Money, reference: str, happened_at: datetime
) -> Posting:
    """As much of `amount` as the user owes and has in `source`, their wallet or their earnings as a host.

    Refused as NothingAvailable when that is nothing; the user still owes it then.
    """
    return posting(
        "receivable_collected",
        collection_id,
        reference=reference,
        happened_at=happened_at,
        debits={source: amount},
        credits={accounts.receivable(user_id, amount.currency): amount},
        up_to=True,
    )


def receivable_written_off(
    *, write_off_id: str, user_id: str, amount: Money, reason: str, approved_by: str, happened_at: datetime
) -> Posting:
    """A user will not pay what they owe: it is our loss."""
    return posting(
        "receivable_written_off",
        write_off_id,
        reference=write_off_id,
        happened_at=happened_at,
        debits={accounts.bad_debts(amount.currency): amount},
        credits={accounts.receivable(user_id, amount.currency): amount},
        metadata={"reason": reason, "approved_by": approved_by},
    )


def chargeback_opened(
    *, dispute_id: str, user_id: str, gateway: str, payment_id: str, amount: Money, happened_at: datetime
) -> Posting:
    """A payer disputes a payment: as much of it as is in the wallet is taken out until that is decided.

    Refused as NothingAvailable when nothing is there. Keep what it moved: the end of the dispute needs it as `held`.
    """
    return posting(
        "chargeback_opened",
        dispute_id,
        reference=dispute_id,
        happened_at=happened_at,
        debits={accounts.wallet(user_id, amount.currency): amount},
        credits={accounts.dispute_held(dispute_id, amount.currency): amount},
        up_to=True,
        metadata={"gateway": gateway, "payment_id": payment_id},
    )


def chargeback_withheld(*, dispute_id: str, gateway: str, amount: Money, happened_at: datetime) -> Posting:
    """A gateway keeps the disputed amount back before anything is decided."""
    return posting(
        "chargeback_withheld",
        dispute_id,
        reference=dispute_id,
        happened_at=happened_at,
        debits={accounts.gateway_withheld(gateway, dispute_id, amount.currency): amount},
        credits={accounts.gateway_clearing(gateway, amount.currency): amount},
    )


def chargeback_returned(*, dispute_id: str, gateway: str, amount: Money, happened_at: datetime) -> Posting:
    """A gateway gives back what it had withheld, or the part of it that was not lost."""
    return posting(
        "chargeback_returned",
        dispute_id,
        reference=dispute_id,
        happened_at=happened_at,
        debits={accounts.gateway_clearing(gateway, amount.currency): amount},
        credits={accounts.gateway_withheld(gateway, dispute_id, amount.currency): amount},
    )


def chargeback_won(*, dispute_id: str, user_id: str, held: Money, happened_at: datetime) -> Posting:
    """The dispute ends in our favour: what was held is wallet money again."""
    return posting(
        "chargeback_won",
        dispute_id,
        reference=dispute_id,
        happened_at=happened_at,
        debits={accounts.dispute_held(dispute_id, held.currency): held},
        credits={accounts.wallet(user_id, held.currency): held},
    )


def chargeback_lost(
    *,
    dispute_id: str,
    user_id: str,
    gateway: str,
    amount: Money,
    held: Money,
    withheld: bool,
    happened_at: datetime,
) -> Posting:
    """The payer keeps `amount`. What was not held of it the user owes; what was held beyond it goes back to the wallet.

    `withheld` says whether the gateway had kept it back before, or deducts it now.
    """
    difference = less(amount, held)
    owed, back = (Money(max(part, ZERO), amount.currency) for part in (difference.amount, -difference.amount))
    kept_back = accounts.gateway_withheld(gateway, dispute_id, amount.currency)
    source = kept_back if withheld else accounts.gateway_clearing(gateway, amount.currency)
    return posting(
        "chargeback_lost",
        dispute_id,
        reference=dispute_id,
        happened_at=happened_at,
        debits={
            accounts.dispute_held(dispute_id, held.currency): held,
            accounts.receivable(user_id, amount.currency): owed,
        },
        credits={source: amount, accounts.wallet(user_id, amount.currency): back},
    )


def promotion_granted(*, grant_id: str, user_id: str, campaign: str, amount: Money, happened_at: datetime) -> Posting:
    """A player gets credit for bookings. It is our cost now, and we owe it. A booking spends it (`bookings.held`)."""
    return posting(
        "promotion_granted",
        grant_id,
        reference=grant_id,
        happened_at=happened_at,
        debits={accounts.promotions(amount.currency): amount},
        credits={accounts.promotion_credit(user_id, amount.currency): amount},
        metadata={"campaign": campaign},
    )


def promotion_expired(*, grant_id: str, user_id: str, campaign: str, amount: Money, happened_at: datetime) -> Posting:
    """What was not spent of a grant lapses, and is no cost any more. Refused while a booking holds a part of it."""
    return posting(
        "promotion_expired",
        grant_id,
        reference=grant_id,
        happened_at=happened_at,
        debits={accounts.promotion_credit(user_id, amount.currency): amount},
        credits={accounts.promotions(amount.currency): amount},
        metadata={"campaign": campaign},
    )


def payout_held(
    *, payout_id: str, source: Account, rail: str, amount: Money, expires_at: datetime, happened_at: datetime
) -> Hold:
    """Somebody wants earnings (`accounts.host`) or wallet money at their bank: it is set aside until we send it."""
    return Hold(
        f"payout_held:{payout_id}",
        "payout_held",
        payout_id,
        happened_at,
        source,
        accounts.payout_transit(rail, payout_id, amount.currency),
        amount,
        expires_at,
        metadata={"rail": rail},
    )


def payout_sent(*, payout_id: str, amount: Money, happened_at: datetime) -> Resolution:
    """We are about to send a payout. Post it before asking the rail: then no sweep can give the money back."""
    return Resolution(
        f"payout_sent:{payout_id}",
        "payout_sent",
        payout_id,
        happened_at,
        ids.derived("hld", f"payout_held:{payout_id}"),
        captured=amount,
    )


def payout_cancelled(*, payout_id: str, amount: Money, happened_at: datetime) -> Resolution:
    """A payout is not sent after all. Refused when it was sent before."""
    return Resolution(
        f"payout_cancelled:{payout_id}",
        "payout_cancelled",
        payout_id,
        happened_at,
        ids.derived("hld", f"payout_held:{payout_id}"),
        released=amount,
    )


def payout_failed(*, payout_id: str, source: Account, rail: str, amount: Money, happened_at: datetime) -> Posting:
    """The rail could not send a payout: it is the payee's again. Refused when it was settled before."""
    return posting(
        "payout_failed",
        payout_id,
        reference=payout_id,
        happened_at=happened_at,
        debits={accounts.payout_transit(rail, payout_id, amount.currency): amount},
        credits={source: amount},
    )


def payout_reversed(*, payout_id: str, source: Account, bank: str, amount: Money, happened_at: datetime) -> Posting:
    """A payout that had left our bank came back to it: it is the payee's again."""
    return posting(
        "payout_reversed",
        payout_id,
        reference=payout_id,
        happened_at=happened_at,
        debits={accounts.bank(bank, amount.currency): amount},
        credits={source: amount},
    )


def suspended(*, item_id: str, source: Account, amount: Money, happened_at: datetime) -> Posting:
    """Money came to `source`, a bank or a gateway's clearing, and nothing says whose it is."""
    return posting(
        "suspended",
        item_id,
        reference=item_id,
        happened_at=happened_at,
        debits={source: amount},
        credits={accounts.suspense(item_id, amount.currency): amount},
    )


def suspense_resolved(
    *, resolution_id: str, item_id: str, target: Account, amount: Money, approved_by: str, happened_at: datetime
) -> Posting:
    """Somebody found out whose a suspended amount is, or a part of it: a wallet's, or the sender's through `source`."""
    return posting(
        "suspense_resolved",
        resolution_id,
        reference=item_id,
        happened_at=happened_at,
        debits={accounts.suspense(item_id, amount.currency): amount},
        credits={target: amount},
        metadata={"approved_by": approved_by},
    )
