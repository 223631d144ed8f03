"""Python 3.11: TypedDicts and unions, for `mypy --strict`. Nothing but types, and constants for named values."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Sequence

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
    Record,
    Type,
    union_of,
)

WIDTH = 100
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "any": "object",
          "never": "Never"}  # fmt: skip
_IMPORTS = ("Final", "Literal", "Never", "NotRequired", "TypeAlias", "TypedDict")


def emit(model: Model) -> str:
    """The module of a model."""
    blocks = [_block(event, data) for event, data in model.stream]
    union = union_of([Named(block.name) for block in blocks])
    stream = Alias("EventStreamMessage", "A block of an event stream, told apart by `event`.", union)
    body = "\n\n\n".join(_definition(definition) for definition in (*model.definitions, *blocks, stream))
    used = [name for name in _IMPORTS if re.search(rf"\b{name}\b", body)]
    doc = f'"""The types of {model.title}, made by `matchday contract types`. Do not edit: make them anew."""'
    gap = "\n\n\n" if body.startswith("class ") else "\n\n"
    return f"{doc}\n\nfrom typing import {', '.join(used)}{gap}{body}\n"


def _block(event: str, data: str) -> Record:
    """A block of an event stream; `data` is what json.loads makes of it."""
    fields = (Field("event", Literals((event,)), True, ""), Field("data", Named(data), True, ""))
    return Record(f"{data}Block", "", fields)


def _definition(definition: Definition) -> str:
    if isinstance(definition, Alias):
        return _alias(definition)
    fields = [field for field in definition.fields if field.type is not None]
    if all(field.name.isidentifier() and not keyword.iskeyword(field.name) for field in fields):
        return _class(definition, fields)
    members = [f"    {_text(field.name)}: {_member(field)}," for field in fields]
    name = definition.name
    return "\n".join([*_comment(definition.doc), f'{name} = TypedDict("{name}", {{', *members, "})"])


def _class(record: Record, fields: Sequence[Field]) -> str:
    lines = [f"class {record.name}(TypedDict):", *_docstring(record.doc)]
    for field in fields:
        lines += [*_comment(field.doc, indent="    "), f"    {field.name}: {_member(field)}"]
    return "\n".join(lines if len(lines) > 1 else [*lines, "    pass"])


def _member(field: Field) -> str:
    assert field.type is not None
    text = _type(field.type)
    return text if field.required else f"NotRequired[{text}]"


def _alias(alias: Alias) -> str:
    line = f"{alias.name}: TypeAlias = {_type(alias.type)}"
    if len(line) > WIDTH:
        line = f"{alias.name}: TypeAlias = {_broken(alias.type)}"
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", alias.name).upper()
    constants = [f"{prefix}_{name.upper()}: Final = {_text(value)}" for name, value in alias.constants]
    return "\n".join([*_comment(alias.doc), line, *constants])


def _broken(type_: Type) -> str:
    """A type that is too long for one line, with one for each of its options."""
    match type_:
        case Literals(values):
            return "\n    ".join(["Literal[", *(f"{_text(value)}," for value in values)]) + "\n]"
        case Either(options):
            return "(\n    " + "\n    | ".join(_type(option) for option in options) + "\n)"
        case _:
            return _type(type_)


def _type(type_: Type) -> str:
    match type_:
        case Plain(name):
            return _PLAIN[name]
        case Literals(values):
            return f"Literal[{', '.join(_text(value) for value in values)}]"
        case Named(name):
            return name
        case ListOf(item):
            return f"list[{_type(item)}]"
        case MapOf(value):
            return f"dict[str, {_type(value)}]"
        case Either(options):
            return " | ".join(_type(option) for option in options)


def _text(value: str | int | bool | None) -> str:
    """A literal, with the quotes that the rest of Python's world prefers."""
    if not isinstance(value, str):
        return repr(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _docstring(text: str) -> list[str]:
    lines = _wrapped(text.replace("\\", "\\\\").replace('"', '\\"'))
    if len(lines) < 2:
        return [f'    """{line}"""\n' for line in lines]
    return [f'    """{lines[0]}', *(f"    {line}" for line in lines[1:]), '    """\n']


def _comment(text: str, indent: str = "") -> list[str]:
    return [f"{indent}# {line}" for line in _wrapped(text)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
