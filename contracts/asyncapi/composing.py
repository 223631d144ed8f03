"""Composition written out: `allOf` as one object, the branches of `oneOf` as one object each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.asyncapi.document import DocumentError, EventsDocument

Schema = Mapping[str, Any]
_BRANCH = frozenset({"required", "properties"})


def all_of(document: EventsDocument, schema: Schema, pointer: str) -> dict[str, Any]:
    """The schema with its `allOf` merged into it; later parts narrow the earlier ones."""
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    parts = [all_of(document, document.resolve(part), pointer) for part in schema.get("allOf", ())]
    merged: dict[str, Any] = {}
    for part in (*parts, whole):
        merged = merge(document, merged, part, pointer)
    return merged


def branches(document: EventsDocument, schema: Schema, keyword: str, pointer: str) -> list[tuple[str, dict[str, Any]]]:
    """Each branch of a `oneOf` or `anyOf` that stands beside properties, merged with them.

    Returns (what the branch requires, the whole object). With `oneOf`, what one branch does nothing but require is
    absent where another one is taken: both together would match twice.
    """
    common = {key: value for key, value in schema.items() if key != keyword}
    parts = [all_of(document, document.resolve(part), pointer) for part in schema[keyword]]
    for part in parts:
        if not part.get("required") or not part.keys() <= _BRANCH:
            raise DocumentError(f"{pointer}/{keyword}: a branch beside properties has required, and properties at most")
    demanded = [frozenset(part["required"]) if len(part) == 1 else frozenset() for part in parts]
    found = []
    for part, own in zip(parts, demanded, strict=True):
        whole = merge(document, common, part, pointer)
        if own and keyword == "oneOf":
            absent = frozenset[str]().union(*demanded) - own
            whole["properties"] = whole["properties"] | dict.fromkeys(absent, False)
        found.append(("_".join(part["required"]), whole))
    return found


def merge(document: EventsDocument, first: Schema, second: Schema, pointer: str) -> dict[str, Any]:
    """One schema of two that both hold. A reference that narrows stays one. Raises DocumentError where they clash."""
    if not first:
        return dict(second)
    merged = {**first, **second}
    if "properties" in first and "properties" in second:
        merged["properties"] = _properties(document, first["properties"], second["properties"], pointer)
    if "required" in first and "required" in second:
        merged["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    if False in (first.get("additionalProperties"), second.get("additionalProperties")):
        merged["additionalProperties"] = False
    for keyword in ("oneOf", "anyOf"):
        if keyword in first and keyword in second:
            raise DocumentError(f"{pointer}: two {keyword} hold at once")
    return merged


def _properties(document: EventsDocument, first: Schema, second: Schema, pointer: str) -> dict[str, Any]:
    merged = dict(first)
    for name, node in second.items():
        merged[name] = _narrowed(document, first[name], node, f"{pointer}/properties/{name}") if name in first else node
    return merged


def _narrowed(document: EventsDocument, wide: Schema, narrow: Schema, pointer: str) -> Schema:
    """A property that two parts describe. A reference to something of the same type is kept as it is."""
    if "$ref" in narrow:
        target = document.resolve(narrow)
        if document.resolve(wide).get("type", target.get("type")) != target.get("type"):
            raise DocumentError(f"{pointer}: is of two types at once")
        return narrow
    return merge(document, document.resolve(wide), narrow, pointer)
