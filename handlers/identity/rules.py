"""What identity decides, and the words in which it refuses.

    sign-up   open ──right code─────────────────▶ completed
               │
               ├──fifth wrong code, of any code──▶ burned
               └──ten minutes after newest code──▶ expired

A sign-up for an address that has an account goes the same ways, except that no code is right.
"""

from __future__ import annotations

import hmac
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from math import ceil

from contracts.errors import Gone, NotAuthenticated, NotFound, Refused, TooMany, Unavailable
from contracts.runtime.problem import Fault

CODE_LENGTH = 6
CODE_TTL_S = 600  # NIST SP 800-63B-4 §3.1.3.2: ten minutes at the most
MAX_WRONG_CODES = 5
MAX_RESENDS = 5
COOL_DOWNS_S = (30, 60, 120)

PASSWORD_MIN_LENGTH = 15  # the only factor: NIST SP 800-63B-4 §3.1.1.2
PASSWORD_MAX_LENGTH = 256

_UNFIT_CATEGORIES = frozenset({"Cc", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

EMAIL_BACKOFF_S = 5
EMAIL_BACKOFF_MAX_S = 900


class EmailInvalid(Refused):
    """Text that no mail can be delivered to."""

    code, title = "identity.email_invalid", "Not an e-mail address that mail can be sent to"


class PasswordWeak(Refused):
    """A password that is too short once normalised, or easy to guess."""

    code, title = "identity.password_weak", "The password is too weak"

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason, errors=[Fault("#/body/password", rule, reason)])


class NameUnfit(Refused):
    """A display name with nothing to see in it, or with signs that rearrange what stands around it."""

    code, title = "identity.name_unfit", "The name cannot be shown"


class SignUpUnknown(NotFound):
    code, title = "identity.sign_up_unknown", "No such sign-up"


class SignUpBurned(Gone):
    code, title = "identity.sign_up_burned", "Too many wrong codes"


class SignUpExpired(Gone):
    code, title = "identity.sign_up_expired", "The code has expired"


class SignUpCompleted(Gone):
    code, title = "identity.sign_up_completed", "The sign-up is complete"


class CodeWrong(Refused):
    """Also the answer when the address got an account meanwhile: nobody learns that from a sign-up."""

    code, title = "identity.code_wrong", "Wrong code"


class ResendsUsedUp(Refused):
    code, title = "identity.resends_used_up", "No more codes for this sign-up"


class ResendTooSoon(TooMany):
    code, title = "identity.resend_too_soon", "Too soon for a new code"

    def __init__(self, wait_s: int) -> None:
        super().__init__()
        self.headers["Retry-After"] = str(wait_s)


class CredentialsWrong(NotAuthenticated):
    """One answer for an unknown address and a wrong password. RFC 9110 §15.5.2 wants the challenge."""

    code, title = "identity.credentials", "Wrong e-mail address or password"

    def __init__(self) -> None:
        super().__init__()
        self.headers["WWW-Authenticate"] = 'Bearer realm="matchday"'


class PasswordsBusy(Unavailable):
    code, title = "identity.busy", "Too many passwords to check at once"


@dataclass(frozen=True, slots=True)
class SignUp:
    """A sign-up as it is at `now`, the database's time."""

    id: str
    email: str
    email_key: str
    display_name: str
    password_hash: str | None
    address_taken: bool
    code_digest: bytes
    wrong_codes: int
    codes_sent: int
    code_sent_at: datetime
    expires_at: datetime
    completed_at: datetime | None
    now: datetime


def code_digest(pepper: bytes, sign_up_id: str, code: str) -> bytes:
    """What is kept of a code: HMAC-SHA256 over the id, of fixed length, and the code."""
    return hmac.digest(pepper, f"{sign_up_id}{code}".encode(), sha256)


def ensure_open(sign_up: SignUp) -> None:
    """Raises SignUpCompleted, SignUpBurned or SignUpExpired for a sign-up that is over."""
    if sign_up.completed_at is not None:
        raise SignUpCompleted
    if sign_up.wrong_codes >= MAX_WRONG_CODES:
        raise SignUpBurned
    if sign_up.now >= sign_up.expires_at:
        raise SignUpExpired


def is_right_code(sign_up: SignUp, digest: bytes) -> bool:
    """Compare in constant time; both halves are always looked at."""
    return hmac.compare_digest(sign_up.code_digest, digest) & (not sign_up.address_taken)


def attempts_left(sign_up: SignUp) -> int:
    """How many wrong codes the sign-up still bears after one more."""
    return MAX_WRONG_CODES - sign_up.wrong_codes - 1


def ensure_resendable(sign_up: SignUp) -> None:
    """Raises what `ensure_open` does, ResendsUsedUp, or ResendTooSoon with the seconds to wait."""
    ensure_open(sign_up)
    resent = sign_up.codes_sent - 1
    if resent >= MAX_RESENDS:
        raise ResendsUsedUp
    cool_down_s = COOL_DOWNS_S[min(resent, len(COOL_DOWNS_S) - 1)]
    wait_s = cool_down_s - (sign_up.now - sign_up.code_sent_at).total_seconds()
    if wait_s > 0:
        raise ResendTooSoon(ceil(wait_s))


def normal_password(password: str) -> str:
    """The form in which a password is hashed: NFKC, so that every keyboard makes the same one."""
    return unicodedata.normalize("NFKC", password)


def ensure_long_enough(password: str) -> None:
    """Raises PasswordWeak unless the normalised password has enough code points, or too many."""
    length = len(normal_password(password))
    if length < PASSWORD_MIN_LENGTH:
        raise PasswordWeak("minLength", f"must have at least {PASSWORD_MIN_LENGTH} characters")
    if len(password) > PASSWORD_MAX_LENGTH:
        raise PasswordWeak("maxLength", f"must have at most {PASSWORD_MAX_LENGTH} characters")


def showable_name(display_name: str) -> str:
    """The name without outer spaces. Raises NameUnfit.

    Something in it must be visible, and nothing may be a control, a line break or a sign that turns the direction
    of the text around it (Unicode TR 36 §2.1). Joiners stay: scripts of India need them.
    """
    name = display_name.strip()
    categories = [unicodedata.category(char) for char in name]
    visible = any(category[0] in "LNPS" for category in categories)
    if not visible or not _UNFIT_CATEGORIES.isdisjoint(categories) or not _BIDI_CONTROLS.isdisjoint(name):
        reason = "must have visible characters and no control characters"
        raise NameUnfit(errors=[Fault("#/body/display_name", "showable", reason)])
    return name


def email_backoff_s(attempts: int, *, wished_s: int | None = None) -> int:
    """Seconds until a mail is tried again: doubled after every attempt, or what the carrier wishes, if more."""
    doubled = min(EMAIL_BACKOFF_S << min(attempts - 1, 20), EMAIL_BACKOFF_MAX_S)
    return max(doubled, wished_s or 0)
