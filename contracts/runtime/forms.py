"""Forms: urlencoded and multipart bodies read into typed fields (HTML 4.10.21, RFC 7578)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.runtime.call import Upload
from contracts.runtime.json_body import JsonFaults, parse
from contracts.runtime.parameters import Field, read_fields, read_pairs
from contracts.runtime.problem import Fault
from contracts.runtime.schema import pointer

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(r';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_FILENAME = re.compile(r';\s*filename=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_MAX_PARTS = 1000
_ROOT = ("body",)


class FormFault(Exception):
    """The form cannot be taken apart."""

    def __init__(self, pointer_: tuple[str, ...], rule: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(pointer(pointer_), rule, message)


class FormReader:
    """The fields of one form schema, compiled once."""

    def __init__(self, schema: Mapping[str, Any], media: Mapping[str, Any], *, resolve: Callable[[Any], Any]) -> None:
        self._texts: list[Field] = []
        self._json: dict[str, bool] = {}
        self._files: dict[str, tuple[bool, int | None, frozenset[str]]] = {}
        encoding = media.get("encoding", {})
        for name, child in schema.get("properties", {}).items():
            self._add(name, resolve(child), encoding.get(name, {}), resolve)
        self._known = {field.name for field in self._texts} | set(self._json) | set(self._files)

    def _add(
        self, name: str, schema: Mapping[str, Any], encoding: Mapping[str, Any], resolve: Callable[[Any], Any]
    ) -> None:
        is_array = schema.get("type") == "array"
        item = resolve(schema["items"]) if is_array else schema
        if item.get("format") == "binary":
            accepted = frozenset(t.strip().lower() for t in encoding.get("contentType", "").split(",") if t.strip())
            self._files[name] = (is_array, item.get("maxLength"), accepted)
        elif item.get("type") in ("object", None):
            self._json[name] = is_array
        else:
            items = item if is_array else None
            field = Field(name, "body", schema, items=items, required=False, explode=encoding.get("explode", True))
            self._texts.append(field)

    def urlencoded(self, data: bytes, faults: list[Fault]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read application/x-www-form-urlencoded; returns (what the handler gets, what is validated)."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise FormFault(_ROOT, "encoding", "must be UTF-8") from None
        pairs = read_pairs(text, "body", faults)
        values: dict[str, Any] = {name: texts[0] for name, texts in pairs.items() if name not in self._known}
        read_fields(self._texts, pairs, values, faults)
        return values, values

    def multipart(
        self, data: bytes, content_type: str, depth: int, faults: list[Fault]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read multipart/form-data; files are `Upload`s for the handler and empty strings for the validator."""
        values: dict[str, Any] = {}
        checked: dict[str, Any] = {}
        texts: dict[str, list[str]] = {}
        for name, filename, part_type, content in split_parts(data, content_type):
            if name in self._files:
                self._file(name, Upload(filename or "", part_type, content), values, checked, faults)
            elif name in self._json:
                self._parse_json(name, content, depth, values, checked, faults)
            else:
                try:
                    texts.setdefault(name, []).append(content.decode("utf-8"))
                except UnicodeDecodeError:
                    faults.append(Fault(pointer(("body", name)), "encoding", "must be UTF-8"))
        typed = {name: given[0] for name, given in texts.items() if name not in self._known}
        read_fields(self._texts, texts, typed, faults)
        return values | typed, checked | typed

    def _file(
        self, name: str, upload: Upload, values: dict[str, Any], checked: dict[str, Any], faults: list[Fault]
    ) -> None:
        many, limit, accepted = self._files[name]
        place = pointer(("body", name))
        if limit is not None and len(upload.content) > limit:
            faults.append(Fault(place, "maxLength", f"must have at most {limit} bytes"))
        if accepted and upload.content_type not in accepted:
            faults.append(Fault(place, "contentType", f"must be of media type {' or '.join(sorted(accepted))}"))
        _put(name, many, upload, "", values, checked, faults)

    def _parse_json(
        self, name: str, content: bytes, depth: int, values: dict[str, Any], checked: dict[str, Any],
        faults: list[Fault],
    ) -> None:  # fmt: skip
        try:
            document = parse(content, depth=depth, root=("body", name))
        except JsonFaults as error:
            faults.extend(error.faults)
        else:
            _put(name, self._json[name], document, document, values, checked, faults)


def _put(
    name: str, many: bool, value: Any, stand_in: Any, values: dict[str, Any], checked: dict[str, Any],
    faults: list[Fault],
) -> None:  # fmt: skip
    if many:
        values.setdefault(name, []).append(value)
        checked.setdefault(name, []).append(stand_in)
    elif name in values:
        faults.append(Fault(pointer(("body", name)), "repeated", "must occur only once"))
    else:
        values[name] = value
        checked[name] = stand_in


def split_parts(data: bytes, content_type: str) -> Sequence[tuple[str, str | None, str, bytes]]:
    """Take a multipart/form-data body apart: (name, filename, media type, content) of every part, strictly."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise FormFault(("header", "Content-Type"), "boundary", "must name the multipart boundary")
    delimiter = b"\r\n--" + (match[1] or match[2]).encode("latin-1", "replace")
    pieces = (b"\r\n" + data).split(delimiter, _MAX_PARTS + 1)
    if len(pieces) > _MAX_PARTS + 1:
        raise FormFault(_ROOT, "maxItems", f"must have at most {_MAX_PARTS} parts")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--") or pieces[-1][2:].strip():
        raise FormFault(_ROOT, "multipart", "must be multipart/form-data that ends with its boundary")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> tuple[str, str | None, str, bytes]:
    head, separator, content = piece.lstrip(b" \t").partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"\r\n"):
        raise FormFault(_ROOT, "multipart", "has a part without headers")
    headers = {}
    for line in head[2:].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    disposition = headers.get("content-disposition", "")
    name_match = _NAME.search(disposition)
    if not disposition.lower().startswith("form-data") or name_match is None:
        raise FormFault(_ROOT, "multipart", "has a part without a name")
    file_match = _FILENAME.search(disposition)
    media_type = headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    return _unquote(name_match), _unquote(file_match) if file_match else None, media_type, content


def _unquote(match: re.Match[str]) -> str:
    """The quoted text or the token of a match, without what browsers escape in it (HTML 4.10.21.8)."""
    text: str = match[2] if match[1] is None else match[1]
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
