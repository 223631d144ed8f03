"""What a typed language sees of a document: records, aliases and unions, in an order without forward references.

A schema says more than a type can: patterns, lengths and ranges are left to whoever validates. A keyword that nobody
here has thought about is refused, so that no meaning gets lost unnoticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Plain:
    """A type of JSON: string, integer, number, boolean, null; `any` of them, or `never` one."""

    name: str


@dataclass(frozen=True, slots=True)
class Literals:
    """One of some values."""

    values: tuple[str | int | bool | None, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A definition, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array."""

    item: Type


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any names."""

    value: Type


@dataclass(frozen=True, slots=True)
class Either:
    """A union."""

    options: tuple[Type, ...]


def union_of(options: Sequence[Type]) -> Type:
    """A union, flat and without repeats; of one option, that option."""
    flat = [inner for option in options for inner in (option.options if isinstance(option, Either) else (option,))]
    unique = tuple(dict.fromkeys(flat)) or (Plain("never"),)
    return unique[0] if len(unique) == 1 else Either(unique)


Type: TypeAlias = Plain | Literals | Named | ListOf | MapOf | Either


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a record. Without a type it must be absent: another record of the same union has it."""

    name: str
    type: Type | None
    required: bool
    doc: str


@dataclass(frozen=True, slots=True)
class Record:
    """An object whose members are known."""

    name: str
    doc: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a type. `constants` are names for its values, for people who compare with them."""

    name: str
    doc: str
    type: Type
    constants: tuple[tuple[str, str | int], ...] = ()


Definition: TypeAlias = Record | Alias


@dataclass(frozen=True, slots=True)
class Model:
    """Everything of a document. `stream` maps the event of each block of an event stream to the name of its data."""

    title: str
    definitions: tuple[Definition, ...]
    stream: tuple[tuple[str, str], ...]
