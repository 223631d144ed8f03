"""TypeScript: interfaces and unions, for `tsc --strict`. Nothing but types, and constants for named values."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence

from contracts.asyncapi.model import (
    Alias,
    Definition,
    Either,
    Field,
    ListOf,
    Literals,
    MapOf,
    Model,
    Named,
    Plain,
    Type,
)

WIDTH = 100
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null",
          "any": "unknown", "never": "never"}  # fmt: skip


def emit(model: Model) -> str:
    """The module of a model."""
    head = f"// The types of {model.title}, made by `matchday contract types`. Do not edit: make them anew."
    definitions = [_definition(definition) for definition in model.definitions]
    return "\n\n".join([head, *definitions, _stream(model.stream)]) + "\n"


def _definition(definition: Definition) -> str:
    if isinstance(definition, Alias):
        return _alias(definition)
    lines = [*_doc(definition.doc), f"export interface {definition.name} {{"]
    lines += [line for field in definition.fields for line in _field(field)]
    return "\n".join([*lines, "}"])


def _alias(alias: Alias) -> str:
    name = alias.name
    if not alias.constants:
        options = _options(alias.type)
        line = f"export type {name} = {' | '.join(options)};"
        if len(line) > WIDTH:
            line = "".join([f"export type {name} =", *(f"\n  | {option}" for option in options), ";"])
        return "\n".join([*_doc(alias.doc), line])
    values = [f"  {_key(constant)}: {json.dumps(value)}," for constant, value in alias.constants]
    return "\n".join(
        [
            *_doc(alias.doc),
            f"export const {name} = {{",
            *values,
            "} as const;",
            f"export type {name} = (typeof {name})[keyof typeof {name}];",
        ]
    )


def _field(field: Field) -> Iterable[str]:
    mark = "" if field.required else "?"
    text = "never" if field.type is None else _type(field.type)
    return [*_doc(field.doc, indent="  "), f"  {_key(field.name)}{mark}: {text};"]


def _type(type_: Type) -> str:
    return " | ".join(_options(type_))


def _options(type_: Type) -> list[str]:
    """The alternatives of a type, each as text."""
    match type_:
        case Plain(name):
            return [_PLAIN[name]]
        case Literals(values):
            return [json.dumps(value, ensure_ascii=False) for value in values]
        case Named(name):
            return [name]
        case ListOf(item):
            text = _type(item)
            return [f"({text})[]" if " | " in text else f"{text}[]"]
        case MapOf(value):
            return [f"Record<string, {_type(value)}>"]
        case Either(options):
            return [text for option in options for text in _options(option)]


def _stream(blocks: Sequence[tuple[str, str]]) -> str:
    """The blocks of an event stream: by `event`, what JSON.parse makes of `data`."""
    names = [f"  {_key(event)}: {data};" for event, data in blocks]
    return "\n".join(
        [
            *_doc("The data of each block of an event stream, by the name of its event."),
            "export interface EventStreamData {",
            *names,
            "}",
            "",
            *_doc("A block of an event stream, told apart by `event`."),
            "export type EventStreamMessage = {",
            "  [Event in keyof EventStreamData]: { event: Event; data: EventStreamData[Event] };",
            "}[keyof EventStreamData];",
        ]
    )


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _doc(text: str, indent: str = "") -> list[str]:
    """A comment of documentation; nothing for no text."""
    text = " ".join(text.split()).replace("*/", "*\\/")
    if not text:
        return []
    if len(text) <= WIDTH:
        return [f"{indent}/** {text} */"]
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}/**", *(f"{indent} * {line}" for line in lines), f"{indent} */"]
