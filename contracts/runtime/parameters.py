"""Path, query, header and cookie parameters: read as the contract declares them, compiled once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from contracts.runtime.json_body import text_fault
from contracts.runtime.problem import Fault
from contracts.runtime.schema import ASCII_INTEGER, ASCII_NUMBER, INT64_MAX, INT64_MIN, pointer

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MISSING = object()
_REFUSED = object()
# Fewer digits than any number beyond 64 bits has.
_SHORT = 19


class SyntaxFault(Exception):
    """The text is not of the declared type."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def parse_integer(text: str) -> int:
    """ASCII decimal digits, no sign but minus, no leading zeros, 64 bits."""
    if len(text) < _SHORT and text.isdigit() and text.isascii() and (text[0] != "0" or text == "0"):
        return int(text)
    if ASCII_INTEGER.fullmatch(text) is None or not INT64_MIN <= (number := int(text)) <= INT64_MAX:
        raise SyntaxFault("must be of type integer")
    return number


def parse_number(text: str) -> int | float:
    """The JSON number grammar, finite."""
    if ASCII_NUMBER.fullmatch(text) is None:
        raise SyntaxFault("must be of type number")
    if ASCII_INTEGER.fullmatch(text) and INT64_MIN <= int(text) <= INT64_MAX:
        return int(text)
    number = float(text)
    if not math.isfinite(number):
        raise SyntaxFault("must be of type number")
    return number


def parse_boolean(text: str) -> bool:
    """`true` or `false`."""
    if text == "true":
        return True
    if text == "false":
        return False
    raise SyntaxFault("must be true or false")


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "integer": parse_integer,
    "number": parse_number,
    "boolean": parse_boolean,
}


def decode_component(text: str, place: tuple[str, ...], faults: list[Fault], *, plus: bool = True) -> str:
    """Percent-decode once; a bad escape or text that cannot be stored is a fault."""
    if plus and "+" in text:
        text = text.replace("+", " ")
    if "%" in text:
        if _BAD_ESCAPE.search(text):
            faults.append(Fault(pointer(place), "encoding", "must be percent-encoded correctly"))
            return text
        text = unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    return text


def read_pairs(raw: str, location: str, faults: list[Fault]) -> dict[str, list[str]]:
    """Group the pairs of a query string or urlencoded form by name; blanks are kept, nothing is decoded twice."""
    pairs: dict[str, list[str]] = {}
    for piece in raw.split("&"):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        if "%" in piece or "+" in piece:
            name = decode_component(name, (location,), faults)
            value = decode_component(value, (location, name), faults)
        if fault := text_fault(name, (location, name)):
            faults.append(fault)
        elif name in pairs:
            pairs[name].append(value)
        else:
            pairs[name] = [value]
    return pairs


class Field:
    """One parameter or form field: how its text becomes a value."""

    __slots__ = ("_array", "_explode", "_parse", "default", "location", "name", "place", "plain", "required")

    def __init__(
        self, name: str, location: str, schema: Mapping[str, Any], *, items: Mapping[str, Any] | None,
        required: bool, explode: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.location = location
        self.place = (location, name)
        self.required = required
        self.default: Any = schema.get("default", _MISSING)
        self._array = items is not None
        self._explode = explode
        self._parse = PARSERS[(items or schema)["type"]]
        self.plain = items is None and schema["type"] == "string"

    def read(self, texts: Sequence[str], faults: list[Fault]) -> Any:
        """Parse the occurrences of this field; returns `_REFUSED` when a fault was added."""
        if not self._array:
            if len(texts) == 1:
                return self._one(texts[0], None, faults)
        elif self._explode or len(texts) == 1:
            parts = texts if self._explode else texts[0].split(",")
            values = [self._one(part, index, faults) for index, part in enumerate(parts)]
            return _REFUSED if _REFUSED in values else values
        faults.append(Fault(pointer(self.place), "repeated", "must occur only once"))
        return _REFUSED

    def _one(self, text: str, index: int | None, faults: list[Fault]) -> Any:
        try:
            if text.isascii() and "\0" not in text:
                return self._parse(text)
            fault = text_fault(text, self._item_place(index))
            if fault is None:
                return self._parse(text)
        except SyntaxFault as error:
            fault = Fault(pointer(self._item_place(index)), "type", error.message)
        faults.append(fault)
        return _REFUSED

    def _item_place(self, index: int | None) -> tuple[str | int, ...]:
        return self.place if index is None else (*self.place, index)


def read_fields(
    fields: Iterable[Field], texts: Mapping[str, Sequence[str]], values: dict[str, Any], faults: list[Fault]
) -> None:
    """Parse declared fields into `values`; absent ones take their default or, when required, are a fault."""
    for field in fields:
        given = texts.get(field.name)
        if given:
            if field.plain and len(given) == 1 and (text := given[0]).isascii() and "\0" not in text:
                # Most parameters are one ASCII text, which is its own value.
                values[field.name] = text
                continue
            value = field.read(given, faults)
            if value is not _REFUSED:
                values[field.name] = value
        elif field.default is not _MISSING:
            # A list of its own: what a handler does to it must not reach the next request.
            values[field.name] = list(field.default) if isinstance(field.default, list) else field.default
        elif field.required:
            faults.append(Fault(pointer(field.place), "required", "is required"))


def make_field(parameter: Mapping[str, Any], resolve: Callable[[Any], Any]) -> Field:
    """Compile one resolved parameter object (OpenAPI 3.0.3, section 4.7.12)."""
    location = parameter["in"]
    schema = resolve(parameter["schema"])
    items = resolve(schema["items"]) if schema["type"] == "array" else None
    style = parameter.get("style", "form" if location in ("query", "cookie") else "simple")
    return Field(
        parameter["name"],
        location,
        schema,
        items=items,
        required=bool(parameter.get("required", False)),
        explode=bool(parameter.get("explode", style == "form")),
    )


class ParameterReader:
    """All parameters of one operation."""

    def __init__(self, fields: Sequence[Field], *, path_keys: Mapping[str, str], ignored_query: frozenset[str]) -> None:
        self._path = [(field, path_keys[field.name]) for field in fields if field.location == "path"]
        self._query = [field for field in fields if field.location == "query"]
        self._headers = [field for field in fields if field.location == "header"]
        self._cookies = [field for field in fields if field.location == "cookie"]
        self._query_names = frozenset(field.name for field in self._query)
        self._ignored_query = ignored_query

    def read(self, request: web.Request, faults: list[Fault]) -> dict[str, Any]:
        """All parameters by place, as `{"path": ..., "query": ..., "header": ..., "cookie": ...}`."""
        raw_query = request.rel_url.raw_query_string if "?" in request.raw_path else ""
        return {
            "path": self._read_path(request, faults) if self._path else {},
            "query": self._read_query(raw_query, faults) if raw_query or self._query else {},
            "header": self._read_headers(request, faults) if self._headers else {},
            "cookie": self._read_cookies(request, faults) if self._cookies else {},
        }

    def _read_path(self, request: web.Request, faults: list[Fault]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        match_info = request.match_info
        for field, key in self._path:
            value = field.read((match_info[key],), faults)
            if value is not _REFUSED:
                values[field.name] = value
        return values

    def _read_query(self, raw: str, faults: list[Fault]) -> dict[str, Any]:
        """Names the contract does not declare are faults."""
        values: dict[str, Any] = {}
        texts = read_pairs(raw, "query", faults)
        if not texts.keys() <= self._query_names:
            faults.extend(
                Fault(pointer(("query", name)), "unknown", "unknown parameter")
                for name in texts
                if name not in self._query_names and name not in self._ignored_query
            )
        read_fields(self._query, texts, values, faults)
        return values

    def _read_headers(self, request: web.Request, faults: list[Fault]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        headers = request.headers
        read_fields(
            self._headers, {field.name: headers.getall(field.name, ()) for field in self._headers}, values, faults
        )
        return values

    def _read_cookies(self, request: web.Request, faults: list[Fault]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        read_fields(self._cookies, {name: (value,) for name, value in request.cookies.items()}, values, faults)
        return values
