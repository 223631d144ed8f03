"""E-mail addresses: which ones mail can be sent to, and when two of them are one."""

from __future__ import annotations

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from contracts.runtime.problem import Fault
from handlers.identity.rules import EmailInvalid


@dataclass(frozen=True, slots=True)
class Address:
    """`email` is written to, in ASCII; `key` is equal for addresses that we take for one."""

    email: str
    key: str


def parse(text: str) -> Address:
    """Read an address without asking the network. Raises EmailInvalid.

    Only ASCII mailboxes, because few mail systems carry others (RFC 6531); an international domain gets its ASCII
    form. Case is dropped from the key: RFC 5321 lets mailboxes differ by case, and none of note do.
    """
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        reason = "must be an address that mail can be sent to"
        raise EmailInvalid(errors=[Fault("#/body/email", "email", reason)]) from None
    email = found.ascii_email or found.normalized
    return Address(email=email, key=email.lower())


def key(text: str) -> str:
    """The key of an address, empty for text that is none: nobody has that key."""
    try:
        return parse(text).key
    except EmailInvalid:
        return ""
