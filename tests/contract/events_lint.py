"""What events.yaml must say beyond what AsyncAPI asks: limits everywhere, nothing unused, both lists of a transport equal.

References, examples, transports of events and close codes are held by tests/unit/streams/test_streams_contract.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from contracts.asyncapi.document import MESSAGES, SCHEMAS, EventsDocument

# How often a part of a pattern may be repeated without an end, outside of character classes.
ENDLESS = re.compile(r"(?<!\\)[*+]|\{[0-9]+,\}")
DATA = frozenset({"examples", "default", "enum"})
# Formats that bound a text by themselves.
BOUNDED = frozenset({"date-time", "date", "uuid"})


def faults(document: EventsDocument) -> list[str]:
    """Everything that is wrong, each with its place."""
    return [
        *_without_limits(document.content["components"]["messages"], "messages"),
        *_without_limits(document.content["components"]["schemas"], "schemas"),
        *_without_limits(document.content["channels"], "channels"),
        *_without_limits(document.content["operations"], "operations"),
        *_unused(document),
        *_lists_that_differ(document),
        *_security_that_nobody_declared(document),
        *_values_without_a_name(document),
    ]


def _without_limits(node: Any, place: str) -> Iterator[str]:
    if isinstance(node, list):
        for number, child in enumerate(node):
            yield from _without_limits(child, f"{place}/{number}")
    if not isinstance(node, dict):
        return
    kinds = node.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "string" in kinds and not _is_bounded(node):
        yield f"{place}: a string without a limit"
    if "array" in kinds and "maxItems" not in node:
        yield f"{place}: an array without maxItems"
    # A query may carry more than we read; everything else is closed.
    closed = node.get("additionalProperties") is False or place.endswith("/query")
    if "object" in kinds and "properties" in node and not closed:
        yield f"{place}: an open object"
    for name, child in node.items():
        # A property may be called `type` or `examples`; a schema's own examples are data.
        if name not in DATA or place.endswith("/properties"):
            yield from _without_limits(child, f"{place}/{name}")


def _is_bounded(schema: dict[str, Any]) -> bool:
    pattern = schema.get("pattern", "")
    plain = re.sub(r"\[(?:\\.|[^\]\\])*\]", "C", pattern)
    whole = pattern.startswith("^") and pattern.endswith("$") and not ENDLESS.search(plain)
    return whole or "maxLength" in schema or "enum" in schema or schema.get("format") in BOUNDED


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for child in node:
            yield from _references(child)
    elif isinstance(node, dict):
        for name, child in node.items():
            if name == "$ref":
                yield child
            else:
                yield from _references(child)


def _unused(document: EventsDocument) -> Iterator[str]:
    used = set(_references(document.content))
    for prefix, kind in ((MESSAGES, "messages"), (SCHEMAS, "schemas")):
        for name in document.content["components"][kind]:
            if f"{prefix}{name}" not in used:
                yield f"{kind}/{name}: nothing refers to it"


def _lists_that_differ(document: EventsDocument) -> Iterator[str]:
    """The messages of a transport are those of its operations; those of a topic are events."""
    events = {message.key for message in document.events}
    for key, channel in document.channels.items():
        listed = {message.key for message in document.listed(channel.get("messages", {}).values())}
        if set(channel.get("messages", {})) != listed:
            yield f"channels/{key}: a message is listed under another name"
        if document.protocols(channel):
            moved = {message.key for message in (*document.received(channel), *document.sent(channel))}
            yield from (f"channels/{key}: {name} is in no operation" for name in sorted(listed - moved))
            yield from (f"channels/{key}: {name} is not listed" for name in sorted(moved - listed))
        else:
            yield from (f"channels/{key}: {name} is no event" for name in sorted(listed - events))


def _security_that_nobody_declared(document: EventsDocument) -> Iterator[str]:
    declared = document.content["components"]["securitySchemes"]
    for name, operation in document.content["operations"].items():
        for scheme in operation.get("security", ()):
            reference = document.pointer(scheme) or ""
            if reference.removeprefix("#/components/securitySchemes/") not in declared:
                yield f"operations/{name}: security that is not declared"


def _values_without_a_name(document: EventsDocument) -> Iterator[str]:
    for name, schema in document.content["components"]["schemas"].items():
        named = schema.get("x-enum-varnames")
        if named is not None and len(set(named)) != len(schema["enum"]):
            yield f"schemas/{name}: x-enum-varnames does not name each value once"
