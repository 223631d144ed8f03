"""String formats: what each accepts. ASCII digits only, full match, real calendar dates."""

from __future__ import annotations

import base64
import binascii
import re
from calendar import monthrange
from collections.abc import Callable
from urllib.parse import urlsplit

FormatCheck = Callable[[str], bool]

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_EMAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_TYPEID_SUFFIX = r"[0-7][0-9a-hjkmnp-tv-z]{25}"


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    return year >= 1 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None


def _is_date_time(text: str) -> bool:
    """RFC 3339 section 5.6, the offset required; a leap second only where one can be (23:59:60 UTC is not computed)."""
    return len(text) > 11 and text[10] in "Tt" and _is_date(text[:10]) and _TIME.fullmatch(text, 11) is not None


def _is_uri(text: str) -> bool:
    if _URI.fullmatch(text) is None:
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme.lower() not in ("http", "https") or bool(parts.hostname)


def _is_email(text: str) -> bool:
    return len(text) <= 254 and _EMAIL.fullmatch(text) is not None and text.index("@") <= 64


def _is_byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _accepts(_text: str) -> bool:
    return True


def typeid(prefix: str) -> FormatCheck:
    """Check for `<prefix>_` followed by a 26 character base32 UUID (TypeID 0.3)."""
    pattern = re.compile(re.escape(prefix) + "_" + _TYPEID_SUFFIX)
    return lambda text: pattern.fullmatch(text) is not None


FORMATS: dict[str, FormatCheck] = {
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "date": _is_date,
    "time": _is_time,
    "date-time": _is_date_time,
    "email": _is_email,
    "uri": _is_uri,
    "decimal": lambda text: _DECIMAL.fullmatch(text) is not None,
    "byte": _is_byte,
    "binary": _accepts,
    "password": _accepts,
}
NUMBER_FORMATS = frozenset({"int32", "int64", "float", "double"})
TYPEID = "typeid"
TYPEID_PREFIX = "x-typeid-prefix"
