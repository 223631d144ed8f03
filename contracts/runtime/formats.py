"""String formats, each as one pattern: ASCII digits only, real calendar dates, checked inside the validator."""

from __future__ import annotations

from typing import Final

_YEAR: Final = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR: Final = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE: Final = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
# RFC 3339 section 5.6; second 60 is a leap second, and which minutes had one is not computed.
_TIME: Final = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?"
    "(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_ATOM: Final = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PCHAR: Final = "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_HOST: Final = rf"(?:\[[0-9A-Fa-f:.]+\]|{_LABEL}(?:\.{_LABEL})*)"
_TAIL: Final = rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"

PATTERNS: Final[dict[str, str]] = {
    "uuid": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}[Tt]{_TIME}$",
    # RFC 5321: a dot-string of at most 64 octets is bounded by the contract's maxLength, labels are bounded here.
    "email": rf"^{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*$",
    # RFC 3986: http and https need a host; any other scheme needs something after the colon.
    "uri": (
        rf"^(?:[Hh][Tt][Tt][Pp][Ss]?://(?:{_PCHAR}*@)?{_HOST}(?::[0-9]{{1,5}})?(?:/{_PCHAR}*)*{_TAIL}"
        rf"|(?![Hh][Tt][Tt][Pp][Ss]?:)[A-Za-z][A-Za-z0-9+.-]*:(?:{_PCHAR}|/)+{_TAIL})$"
    ),
    "decimal": r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$",
    "byte": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
# Annotations without a check of their own.
UNCHECKED: Final = frozenset({"binary", "password"})
NUMBER_FORMATS: Final = frozenset({"int32", "int64", "float", "double"})
TYPEID: Final = "typeid"
TYPEID_PREFIX: Final = "x-typeid-prefix"
_TYPEID_SUFFIX: Final = "_[0-7][0-9a-hjkmnp-tv-z]{25}$"


def typeid_pattern(prefix: str) -> str:
    """Pattern of `<prefix>_` followed by a base32 UUID of 26 characters (TypeID 0.3)."""
    return f"^{prefix}{_TYPEID_SUFFIX}"


def format_of(pattern: str) -> str | None:
    """The name of the format a pattern stands for, if it is one of ours."""
    if pattern.endswith(_TYPEID_SUFFIX):
        return f"{TYPEID} with the prefix {pattern[1 : -len(_TYPEID_SUFFIX)]}"
    return _NAMES.get(pattern)


_NAMES: Final = {pattern: name for name, pattern in PATTERNS.items()}
