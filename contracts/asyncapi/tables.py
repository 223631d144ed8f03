"""Schemas as tables for people: one row for each property, with its type, limits and description in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.asyncapi.composing import all_of
from contracts.asyncapi.document import MESSAGES, SCHEMAS, EventsDocument

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a type's text; `target` is the id on the page that it leads to."""

    text: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One property; `path` is dotted for what is within another one, `[]` stands for the items of an array."""

    path: str
    type: list[Part]
    required: bool
    limits: list[str]
    values: list[str]
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """A schema. An object has rows and perhaps `extends` schemas, of which it then tells only what it narrows."""

    extends: list[Part] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    closed: bool = False


def table_of(document: EventsDocument, schema: Schema) -> Table:
    """Tell a payload or a named schema; what an object refers to is told within it."""
    whole = all_of(document, schema, "")
    extended = [_reference(document, part) for part in schema.get("allOf", ()) if "$ref" in part]
    if "properties" not in whole:
        return Table(rows=[_row(document, "", whole, required=True)])
    narrowed = {name for part in (*schema.get("allOf", ()), schema) for name in part.get("properties", ())}
    properties = {name: node for name, node in whole["properties"].items() if not extended or name in narrowed}
    keyword = "oneOf" if "oneOf" in whole else "anyOf"
    return Table(
        extends=extended,
        rows=list(_rows(document, {**whole, "properties": properties}, "")),
        choices=[_choice(branch) for branch in whole.get(keyword, ())],
        closed=whole.get("additionalProperties") is False,
    )


def _rows(document: EventsDocument, schema: Schema, prefix: str) -> Iterator[Row]:
    required = schema.get("required", ())
    for name, node in schema["properties"].items():
        path = f"{prefix}{name}"
        yield _row(document, path, node, required=name in required)
        inner = all_of(document, document.resolve(node), path)
        if inner.get("type") == "array":
            path, inner = f"{path}[]", all_of(document, document.resolve(inner["items"]), path)
        if "properties" in inner:
            yield from _rows(document, inner, f"{path}.")


def _row(document: EventsDocument, path: str, node: Schema, *, required: bool) -> Row:
    resolved = document.resolve(node)
    values = resolved.get("enum", ())
    return Row(
        path=path,
        type=list(_type(document, node)),
        required=required,
        limits=list(_limits(document, resolved)),
        values=[json.dumps(value, ensure_ascii=False) for value in values] if len(values) > 1 else [],
        description=resolved.get("description", ""),
    )


def _type(document: EventsDocument, schema: Schema) -> Iterator[Part]:
    if "$ref" in schema:
        yield _reference(document, schema)
    elif len(schema.get("enum", ())) == 1:
        yield Part(json.dumps(schema["enum"][0], ensure_ascii=False))
    elif "properties" not in schema and ("oneOf" in schema or "anyOf" in schema):
        for number, option in enumerate(schema.get("oneOf", schema.get("anyOf"))):
            yield from [Part(" or ")] if number else []
            yield from _type(document, option)
    elif schema.get("type") == "array":
        yield Part("array of ")
        yield from _type(document, schema["items"])
    else:
        kinds = schema.get("type", "any")
        yield Part(kinds if isinstance(kinds, str) else " or ".join(kinds))


def _reference(document: EventsDocument, node: Schema) -> Part:
    target = document.pointer(node) or ""
    if target.startswith(MESSAGES):
        key = target.removeprefix(MESSAGES).removesuffix("/payload")
        return Part(key, f"message-{key}")
    name = target.removeprefix(SCHEMAS)
    return Part(name, f"schema-{name}")


def _limits(document: EventsDocument, schema: Schema) -> Iterator[str]:
    """What narrows a value, in words; a pattern as it is. An enumeration says it all by its values."""
    if "enum" in schema:
        return
    if "format" in schema:
        yield schema["format"]
    for low, high, what in (
        ("minLength", "maxLength", "characters"),
        ("minimum", "maximum", ""),
        ("minItems", "maxItems", "items"),
        ("minProperties", "maxProperties", "members"),
    ):
        yield from _range(schema.get(low), schema.get(high), what)
    if schema.get("uniqueItems"):
        yield "no repeats"
    if schema.get("type") == "array":
        items = document.resolve(schema["items"])
        if "properties" not in items:
            yield from (f"each: {limit}" for limit in _limits(document, items))
    if "pattern" in schema:
        yield f"pattern {schema['pattern']}"


def _range(low: int | None, high: int | None, what: str) -> Iterator[str]:
    unit = f" {what}" if what else ""
    if low is not None and high is not None:
        yield f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
    elif high is not None:
        yield f"at most {high}{unit}"
    elif low is not None:
        yield f"at least {low}{unit}"


def _choice(branch: Schema) -> str:
    """One branch of an object's oneOf, as Markdown."""
    values = [
        f"`{name}` is `{json.dumps(value)}`"
        for name, node in branch.get("properties", {}).items()
        for value in node.get("enum", ())
    ]
    return " and ".join([*values, *(f"`{name}` is there" for name in branch.get("required", ()))])
