"""TypeIDs: `usr_01jd4q…`, a kind and a UUIDv7 in 26 characters.

Ids sort by the time they were made, tell what they name, and are stored as they are written
(`text COLLATE "C"`), so that an id in a log line can be pasted into a query.
Source: TypeID specification 0.3 (prefix `[a-z_]`, suffix Crockford base32 of a UUIDv7, RFC 9562 §5.7).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import uuid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_SUFFIX = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)


def new(prefix: str) -> str:
    """Return a fresh id of the kind `prefix`."""
    return f"{prefix}_{encode(_uuid7())}"


def of(prefix: str, value: uuid.UUID) -> str:
    """Render a UUID as an id of the kind `prefix`."""
    return f"{prefix}_{encode(value)}"


def derived(prefix: str, key: str) -> str:
    """The id that always belongs to a key: SHA-256 in a UUIDv8 (RFC 9562 §5.8), as SQL's `ledger.transaction_id`."""
    digest = hashlib.sha256(key.encode("ascii")).hexdigest()
    return of(prefix, uuid.UUID(f"{digest[:12]}8{digest[13:16]}8{digest[17:32]}"))


def is_valid(text: str, prefix: str) -> bool:
    """Tell whether `text` is a well-formed id of the kind `prefix`."""
    kind, _, suffix = text.rpartition("_")
    return kind == prefix and _SUFFIX.fullmatch(suffix) is not None


def encode(value: uuid.UUID) -> str:
    """Render a UUID as 26 characters of Crockford base32, most significant first."""
    number = value.int
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def decode(suffix: str) -> uuid.UUID:
    """Return the UUID in a suffix. Raises ValueError when it is not well-formed."""
    if _SUFFIX.fullmatch(suffix) is None:
        raise ValueError("not a TypeID suffix")
    number = 0
    for char in suffix:
        number = number << 5 | _VALUES[char]
    return uuid.UUID(int=number)


def _uuid7() -> uuid.UUID:
    millis = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    number = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return uuid.UUID(int=number)
