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
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_VERSION_8 = 0xF << 76 | 0xF << 60  # the digits that say so
_SUFFIX = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)


def new(prefix: str) -> str:
    """Return a fresh id of the kind `prefix`."""
    return f"{prefix}_{_text(_uuid7())}"


def of(prefix: str, value: uuid.UUID) -> str:
    """Render a UUID as an id of the kind `prefix`."""
    return f"{prefix}_{encode(value)}"


def derived(prefix: str, key: str) -> str:
    """The id that always belongs to a key: SHA-256 in a UUIDv8 (RFC 9562 §5.8), as SQL's `ledger.transaction_id`."""
    number = int.from_bytes(hashlib.sha256(key.encode("ascii")).digest()[:16], "big")
    return f"{prefix}_{_text(number & ~_VERSION_8 | 0x8 << 76 | 0x8 << 60)}"


def is_valid(text: str, prefix: str) -> bool:
    """Tell whether `text` is a well-formed id of the kind `prefix`."""
    kind, _, suffix = text.rpartition("_")
    return kind == prefix and _SUFFIX.fullmatch(suffix) is not None


def encode(value: uuid.UUID) -> str:
    """Render a UUID as 26 characters of Crockford base32, most significant first."""
    return _text(value.int)


def decode(suffix: str) -> uuid.UUID:
    """Return the UUID in a suffix. Raises ValueError when it is not well-formed."""
    if _SUFFIX.fullmatch(suffix) is None:
        raise ValueError("not a TypeID suffix")
    number = 0
    for char in suffix:
        number = number << 5 | _VALUES[char]
    return uuid.UUID(int=number)


def _text(number: int) -> str:
    # Ten bits at a time, from two halves that Python computes fast with.
    high, low = number >> 60, number & (1 << 60) - 1
    return "".join([
        _PAIRS[high >> 60], _PAIRS[high >> 50 & 1023], _PAIRS[high >> 40 & 1023], _PAIRS[high >> 30 & 1023],
        _PAIRS[high >> 20 & 1023], _PAIRS[high >> 10 & 1023], _PAIRS[high & 1023],
        _PAIRS[low >> 50], _PAIRS[low >> 40 & 1023], _PAIRS[low >> 30 & 1023],
        _PAIRS[low >> 20 & 1023], _PAIRS[low >> 10 & 1023], _PAIRS[low & 1023],
    ])  # fmt: skip


def _uuid7() -> int:
    millis = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
