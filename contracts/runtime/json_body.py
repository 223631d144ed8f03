"""Strict JSON (RFC 8259): what the standard decoder lets pass is refused, with the place of every fault."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from contracts.runtime.problem import Fault
from contracts.runtime.schema import INT64_MAX, INT64_MIN, pointer


class JsonFaults(Exception):
    """The text is not the JSON this service reads."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} JSON fault(s)")
        self.faults = faults


class _Suspicious(Exception):
    """Something needs the slow reading, which finds out where it is."""


class _Marked:
    """Stands in the parsed document for a value that is refused."""

    __slots__ = ("message", "rule")

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        self.message = message


_CONSTANT = ("json.nan", "NaN and Infinity are not JSON")
_RANGE = ("json.number", "is outside the range of numbers this service reads")
_DUPLICATE = ("json.duplicate_key", "occurs more than once")
_INTEGER_DIGITS = 20
_NOT_PLAIN: Any = object()
_SPACED_COLON = re.compile(rb"[ \t\r\n]:")
_PLAIN_TYPES = frozenset({str, bool, type(None)})
# orjson reads an integer beyond 64 bits as a float near it; every such float lies outside these limits.
_SAFE_MIN, _SAFE_MAX = -(2**62), 2**62


def _fast_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _Suspicious
    return document


def _fast_integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS:
        raise _Suspicious
    number = int(text)
    if not INT64_MIN <= number <= INT64_MAX:
        raise _Suspicious
    return number


def _fast_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Suspicious
    return number


def _fast_constant(_text: str) -> NoReturn:
    raise _Suspicious


def _slow_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        document[key] = _Marked(*_DUPLICATE) if key in document else value
    return document


def _slow_integer(text: str) -> Any:
    if len(text) > _INTEGER_DIGITS or not INT64_MIN <= int(text) <= INT64_MAX:
        return _Marked(*_RANGE)
    return int(text)


def _slow_float(text: str) -> Any:
    number = float(text)
    return number if math.isfinite(number) else _Marked(*_RANGE)


def _slow_constant(_text: str) -> _Marked:
    return _Marked(*_CONSTANT)


_fast = json.JSONDecoder(
    object_pairs_hook=_fast_object,
    parse_int=_fast_integer,
    parse_float=_fast_float,
    parse_constant=_fast_constant,
)
_slow = json.JSONDecoder(
    object_pairs_hook=_slow_object,
    parse_int=_slow_integer,
    parse_float=_slow_float,
    parse_constant=_slow_constant,
)


def parse(data: bytes, *, depth: int, root: tuple[str | int, ...] = ("body",)) -> Any:
    """Parse strict UTF-8 JSON.

    Refused: other encodings and byte order marks, NaN and Infinity, repeated keys, numbers beyond a double or 64 bits,
    nesting deeper than `depth`, NUL characters and lone surrogates (PostgreSQL text holds neither). Raises JsonFaults.
    """
    document = _read_plain(data, depth)
    if document is not _NOT_PLAIN:
        return document
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _fault(root, "json.encoding", "must be UTF-8") from None
    # NUL and surrogates can only come from escapes: a raw control character is a syntax error, UTF-8 has no surrogates.
    suspicious = "\\u" in text
    try:
        document = _fast.decode(text)
    except _Suspicious:
        suspicious = True
        document = _slow_decode(text, root)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _syntax(error, root) from None
    # Brackets bound the depth, so only a document with many of them is looked at.
    if text.count("[") + text.count("{") > depth and _deeper(document, depth):
        raise _fault(root, "json.depth", f"must not nest deeper than {depth}")
    if suspicious and (faults := _walk(document, root)):
        raise JsonFaults(faults)
    return document


def _read_plain(data: bytes, depth: int) -> Any:
    """Read with the fast decoder when nothing in the bytes can be one of the things it lets pass.

    orjson refuses other encodings, NaN, infinite numbers and lone surrogates, and lets repeated keys, long integers and
    NUL pass. A key is followed by a colon, with nothing or one space between for every common encoder, so as many
    colons after quotes or white space as keys were read means that no key was lost.
    """
    if b"\\u" in data or data.count(b"{") + data.count(b"[") > depth:
        return _NOT_PLAIN
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _NOT_PLAIN
    keys = _count_keys(document)
    # Cheapest first: no string holds a colon.
    if keys == data.count(b":") or keys == data.count(b'":') + len(_SPACED_COLON.findall(data)):
        return document
    return _NOT_PLAIN


def _count_keys(document: Any) -> int:
    """Keys of all objects in a document; -1 when a number may have lost digits."""
    count = 0
    stack = [document]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is dict:
            count += len(node)
            stack += [value for value in node.values() if type(value) not in _PLAIN_TYPES]
        elif kind is list:
            stack += [value for value in node if type(value) not in _PLAIN_TYPES]
        elif (kind is int or kind is float) and not _SAFE_MIN < node < _SAFE_MAX:
            return -1
    return count


def _slow_decode(text: str, root: tuple[str | int, ...]) -> Any:
    try:
        return _slow.decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _syntax(error, root) from None


def _syntax(error: Exception, root: tuple[str | int, ...]) -> JsonFaults:
    if isinstance(error, json.JSONDecodeError):
        return _fault(root, "json.syntax", f"is not valid JSON at line {error.lineno}, column {error.colno}")
    return _fault(root, "json.depth", "nests too deep")


def _fault(root: tuple[str | int, ...], rule: str, message: str) -> JsonFaults:
    return JsonFaults([Fault(pointer(root), rule, message)])


def _deeper(document: Any, depth: int) -> bool:
    """Whether a document nests deeper than `depth`, looked at level by level."""
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def _walk(document: Any, root: tuple[str | int, ...]) -> list[Fault]:
    """Find marked values and strings that PostgreSQL cannot hold."""
    faults: list[Fault] = []
    stack: list[tuple[tuple[str | int, ...], Any]] = [(root, document)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, _Marked):
            faults.append(Fault(pointer(place), value.rule, value.message))
        elif isinstance(value, str):
            if fault := text_fault(value, place):
                faults.append(fault)
        elif isinstance(value, dict):
            for key, child in value.items():
                stack.append(((*place, key), child))
                if fault := text_fault(key, (*place, key)):
                    faults.append(fault)
        elif isinstance(value, list):
            stack.extend(((*place, index), child) for index, child in enumerate(value))
    return faults


def text_fault(text: str, place: tuple[str | int, ...]) -> Fault | None:
    """The fault of a string that cannot be stored, if any."""
    if "\0" in text:
        return Fault(pointer(place), "nul", "must not contain NUL characters")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return Fault(pointer(place), "encoding", "must be valid Unicode")
    return None
