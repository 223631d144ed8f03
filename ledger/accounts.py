"""The chart of accounts: every account Matchday keeps, by kind.

An account is named by a code (`wallet:usr_…`) and a currency and is opened by the first posting that needs it. The
chart is the table `CHART`; README.md shows it, and nothing else says what an account is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

Kind = Literal["asset", "liability", "equity", "income", "expense"]
Head = Literal["cgst", "sgst", "igst"]
CREDIT_NORMAL: frozenset[Kind] = frozenset({"liability", "equity", "income"})
MAX_STRIPES = 16
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the chart defines it. `floor` is the lowest balance on its normal side, None for no limit."""

    code: str
    currency: str
    kind: Kind
    floor: Decimal | None = None
    ceiling: Decimal | None = None

    @property
    def credit_normal(self) -> bool:
        return self.kind in CREDIT_NORMAL


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the chart: in `pattern`, `<name>` stands for an id and `<a/b>` for one of these words."""

    pattern: str
    kind: Kind
    floor: Decimal | None
    ceiling: Decimal | None
    stripes: int
    meaning: str

    @property
    def limited(self) -> bool:
        return self.floor is not None or self.ceiling is not None


# No line has a ceiling: what happened has to be bookable. The limit of one wallet is a change of that account
# (`ledger.change_account_v1`), and so is its freezing.
# fmt: off
CHART: tuple[Row, ...] = (
    #   pattern                                 kind         floor ceiling stripes, what it holds
    Row("bank:<account>",                       "asset",     None, None, 1, "money at a bank"),
    Row("gateway_clearing:<gateway>",           "asset",     None, None, 1, "collected by a gateway, not settled"),
    Row("gateway_withheld:<gateway>:<dispute>", "asset",     ZERO, None, 1, "kept back by a gateway during a dispute"),
    Row("gst_input:<cgst/sgst/igst>",           "asset",     None, None, 1, "GST that we paid on fees, to be set off"),
    Row("receivable:<user>",                    "asset",     ZERO, None, 1, "what a user owes us"),
    Row("wallet:<user>",                        "liability", ZERO, None, 1, "what we owe a player"),
    Row("host:<user>",                          "liability", ZERO, None, 1, "what a host has earned and not withdrawn"),
    Row("promotion_credit:<user>",              "liability", ZERO, None, 1, "given to a player, for bookings only"),
    Row("escrow:<booking>",                     "liability", ZERO, None, 1, "paid for a booking that is not settled"),
    Row("dispute_held:<dispute>",               "liability", ZERO, None, 1, "taken from a wallet during a dispute"),
    Row("refund_clearing:<gateway>:<refund>",   "liability", ZERO, None, 1, "asked of a gateway, on its way back"),
    Row("payout_transit:<rail>:<payout>",       "liability", ZERO, None, 1, "sent to a payee, not seen at the bank"),
    Row("suspense:<item>",                      "liability", ZERO, None, 1, "money that came and fits nothing"),
    Row("gst_payable:<cgst/sgst/igst>",         "liability", None, None, 1, "GST charged on our fee"),
    Row("tds_payable",                          "liability", None, None, 1, "income tax deducted from hosts"),
    Row("tcs_payable:<cgst/sgst/igst>",         "liability", None, None, 1, "GST collected from hosts at source"),
    Row("funding",                              "equity",    None, None, 1, "the company's own money put in"),
    Row("platform_fee",                         "income",    None, None, 1, "our fee, without GST"),
    Row("gateway_fees:<gateway>",               "expense",   None, None, 1, "what gateways and rails take, net of GST"),
    Row("promotions",                           "expense",   None, None, 1, "credit given to players"),
    Row("bad_debts",                            "expense",   None, None, 1, "what users owed us and will not pay"),
)
# fmt: on


def _shape(line: Row) -> re.Pattern[str]:
    code = re.sub(r"<[a-z]+>", "[A-Za-z0-9_]+", line.pattern)
    code = re.sub(r"<([a-z/]+)>", lambda words: f"(?:{words[1].replace('/', '|')})", code)
    return re.compile(code if line.limited else f"{code}(?::s(?:[0-9]|1[0-5]))?", re.ASCII)


_LINES = {line.pattern.partition(":")[0]: (line, _shape(line)) for line in CHART}


def _line(code: str) -> Row:
    line, shape = _LINES.get(code.partition(":")[0], (None, None))
    if line is None or shape is None or not shape.fullmatch(code):
        raise ValueError("there is no such account in the chart")
    return line


@lru_cache(maxsize=16_384)
def of(code: str, currency: str) -> Account:
    """The account of this code. Raises ValueError when the chart has none."""
    line = _line(code)
    return Account(code, currency, line.kind, line.floor, line.ceiling)


def stripe(account: Account, key: str, count: int | None = None) -> Account:
    """The part of a hot account that the posting of this key moves: `code:s0` to `code:s15`, or the account itself.

    `count` None: as many as the chart says; 1 is the account itself. A key always has the same stripe, so that a
    posting repeated is the same posting. An account's balance is its own and that of its stripes together. Raises
    ValueError for an account with a floor or a ceiling (no stripe knows what the others hold), and for a stripe.
    """
    if account.floor is not None or account.ceiling is not None:
        raise ValueError("an account with a limit is not striped")
    count = _line(account.code).stripes if count is None else count
    if not 1 <= count <= MAX_STRIPES:
        raise ValueError(f"an account has 1 to {MAX_STRIPES} stripes")
    if count == 1:
        return account
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count
    return of(f"{account.code}:s{number}", account.currency)


def bank(account: str, currency: str) -> Account:
    """Money at a bank. May be below zero in our books while a statement is late."""
    return of(f"bank:{account}", currency)


def gateway_clearing(gateway: str, currency: str) -> Account:
    """What a gateway has collected for us and not settled yet. Refunds may take it below zero for a while."""
    return of(f"gateway_clearing:{gateway}", currency)


def gateway_withheld(gateway: str, dispute_id: str, currency: str) -> Account:
    """What a gateway keeps back while one dispute is open."""
    return of(f"gateway_withheld:{gateway}:{dispute_id}", currency)


def gst_input(head: Head, currency: str) -> Account:
    """GST on what we bought, by the head under which it is set off."""
    return of(f"gst_input:{head}", currency)


def receivable(user_id: str, currency: str) -> Account:
    """What a user owes us. Never below zero: nobody repays more than that."""
    return of(f"receivable:{user_id}", currency)


def wallet(user_id: str, currency: str) -> Account:
    """What Matchday owes a user. Never below zero."""
    return of(f"wallet:{user_id}", currency)


def host(user_id: str, currency: str) -> Account:
    """What a host has earned and not withdrawn, after fee and taxes. Never below zero."""
    return of(f"host:{user_id}", currency)


def promotion_credit(user_id: str, currency: str) -> Account:
    """What a player may spend on bookings and not withdraw. Never below zero."""
    return of(f"promotion_credit:{user_id}", currency)


def escrow(booking_id: str, currency: str) -> Account:
    """What was paid for one booking. Its floor lets no more out than came in, whoever asks, in whatever order."""
    return of(f"escrow:{booking_id}", currency)


def dispute_held(dispute_id: str, currency: str) -> Account:
    """What was taken from a wallet while one dispute is open."""
    return of(f"dispute_held:{dispute_id}", currency)


def refund_clearing(gateway: str, refund_id: str, currency: str) -> Account:
    """One refund on its way: either processed or failed, since its floor lets it out once."""
    return of(f"refund_clearing:{gateway}:{refund_id}", currency)


def payout_transit(rail: str, payout_id: str, currency: str) -> Account:
    """One payout on its way: either settled or failed, since its floor lets it out once."""
    return of(f"payout_transit:{rail}:{payout_id}", currency)


def suspense(item_id: str, currency: str) -> Account:
    """Money of one arrival that fits nothing, until somebody says what it is."""
    return of(f"suspense:{item_id}", currency)


def gst_payable(head: Head, currency: str) -> Account:
    """GST on our fee, by the head under which it is paid."""
    return of(f"gst_payable:{head}", currency)


def tds_payable(currency: str) -> Account:
    """Income tax deducted from hosts, until it is paid to the government."""
    return of("tds_payable", currency)


def tcs_payable(head: Head, currency: str) -> Account:
    """GST collected from hosts at source, by the head under which it is paid."""
    return of(f"tcs_payable:{head}", currency)


def funding(currency: str) -> Account:
    """The company's own money among the users'."""
    return of("funding", currency)


def platform_fee(currency: str) -> Account:
    """Our fee, without GST."""
    return of("platform_fee", currency)


def gateway_fees(gateway: str, currency: str) -> Account:
    """What a gateway or payout rail charges us, without GST."""
    return of(f"gateway_fees:{gateway}", currency)


def promotions(currency: str) -> Account:
    """What promotion credit costs us: booked when it is given, taken back when it lapses."""
    return of("promotions", currency)


def bad_debts(currency: str) -> Account:
    """What users owed us and will not pay."""
    return of("bad_debts", currency)
