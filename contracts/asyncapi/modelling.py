"""From the schemas of a document to the model: what JSON Schema composes is written out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from contracts.asyncapi.composing import all_of, branches
from contracts.asyncapi.document import MESSAGES, SCHEMAS, DocumentError, EventsDocument, Message
from contracts.asyncapi.model import (
    Alias,
    Definition,
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

_TYPING = frozenset(
    {"$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "allOf", "oneOf",
     "anyOf", "x-enum-varnames"}
)  # fmt: skip
# What narrows the values of a type without changing it, and what is for people.
_LIMITS = frozenset(
    {"title", "description", "examples", "default", "deprecated", "format", "pattern", "minLength", "maxLength",
     "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems",
     "minProperties", "maxProperties"}
)  # fmt: skip
_PLAIN = frozenset({"string", "integer", "number", "boolean", "null"})

EVENTS = "MatchdayEvent"  # the union of all events
_UNIONS = (EVENTS, "ClientMessage", "ServerMessage", "EventStreamMessage", "EventStreamData")

Schema = Mapping[str, Any]


def model_of(document: EventsDocument) -> Model:
    """Read the types of every message. Raises DocumentError for a schema that cannot be told as a type."""
    return _Modeller(document).model()


def type_name(document: EventsDocument, message: Message) -> str:
    """What the type of a message is called."""
    return pascal(message.key) + ("Event" if message in document.events else "Message")


def pascal(name: str) -> str:
    """`deposit.paid`, `going_away`, `withTicket` → `DepositPaid`, `GoingAway`, `WithTicket`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


class _Modeller:
    def __init__(self, document: EventsDocument) -> None:
        self._document = document
        self._definitions: dict[str, Definition] = {}
        self._origins = dict.fromkeys(_UNIONS, "a union of messages")  # name → what it was made for
        self._open: list[str] = []

    def model(self) -> Model:
        document = self._document
        channels = list(document.channels.values())
        sockets = [channel for channel in channels if document.websocket(channel)]
        streams = [channel for channel in channels if document.event_stream(channel)]
        self._unite(EVENTS, document.events, "Every event, told apart by `type`.")
        received = [message for channel in sockets for message in document.received(channel)]
        self._unite("ClientMessage", received, "What a client sends over a WebSocket, told apart by `op`.")
        sent = [message for channel in sockets for message in document.sent(channel)]
        self._unite("ServerMessage", sent, "What the server sends over a WebSocket, told apart by `op`.")
        blocks = tuple((m.name, self._message(m)) for channel in streams for m in document.sent(channel))
        info = document.content["info"]
        return Model(f"{info['title']} {info['version']}", tuple(self._definitions.values()), blocks)

    def _unite(self, name: str, messages: Sequence[Message], doc: str) -> None:
        union = union_of([Named(self._message(message)) for message in messages])
        self._definitions[name] = Alias(name, doc, union)

    def _message(self, message: Message) -> str:
        doc = f"{message.title}. {message.description}".strip()
        return self._define(type_name(self._document, message), message.pointer, message.payload, doc)

    def _define(self, name: str, pointer: str, schema: Schema, doc: str) -> str:
        """Make sure of a definition and return its name."""
        if self._origins.setdefault(name, pointer) != pointer:
            raise DocumentError(f"{pointer}: {name} is also the name of {self._origins[name]}")
        if name in self._open:
            raise DocumentError(f"{pointer}: contains itself")
        if name not in self._definitions:
            self._open.append(name)
            # What it consists of is defined on the way, and so stands before it.
            definition = self._definition(name, pointer, schema, doc)
            self._definitions[name] = definition
            self._open.remove(name)
        return name

    def _definition(self, name: str, pointer: str, schema: Schema, doc: str) -> Definition:
        whole = all_of(self._document, schema, pointer)
        if "properties" in whole and not ("oneOf" in whole or "anyOf" in whole):
            return Record(name, doc, self._fields(whole, name, pointer))
        return Alias(name, doc, self._type(whole, name, pointer), _constants(whole, pointer))

    def _fields(self, schema: Schema, name: str, pointer: str) -> tuple[Field, ...]:
        self._check(schema, pointer)
        required = set(schema.get("required", ()))
        if missing := required - set(schema["properties"]):
            raise DocumentError(f"{pointer}: requires {', '.join(sorted(missing))} and does not describe it")
        return tuple(
            self._field(member, node, name, f"{pointer}/properties/{member}", required=member in required)
            for member, node in schema["properties"].items()
        )

    def _field(self, member: str, schema: Any, owner: str, pointer: str, *, required: bool) -> Field:
        if schema is False:
            return Field(member, None, False, "")
        found = self._type(schema, f"{owner}{pascal(member)}", pointer)
        # What a named type is, its own definition says.
        return Field(member, found, required, schema.get("description", ""))

    def _type(self, schema: Schema, name: str, pointer: str) -> Type:
        """The type of a schema; objects within it are defined under names that begin with `name`."""
        self._check(schema, pointer)
        if "$ref" in schema:
            return Named(self._referred(schema, pointer))
        if "allOf" in schema:
            return self._type(all_of(self._document, schema, pointer), name, pointer)
        if "enum" in schema or "const" in schema:
            return Literals(tuple(schema.get("enum", [schema.get("const")])))
        if "oneOf" in schema or "anyOf" in schema:
            return self._union(schema, name, pointer)
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not kinds:
            raise DocumentError(f"{pointer}: has no type")
        return union_of([self._kind(kind, schema, name, pointer) for kind in kinds])

    def _kind(self, kind: str, schema: Schema, name: str, pointer: str) -> Type:
        if kind in _PLAIN:
            return Plain(kind)
        if kind == "array":
            if "items" not in schema:
                raise DocumentError(f"{pointer}: has no items")
            return ListOf(self._type(schema["items"], f"{name}Item", f"{pointer}/items"))
        if kind != "object":
            raise DocumentError(f"{pointer}: has the unknown type {kind}")
        if "properties" in schema:
            one = {**schema, "type": "object"}
            return Named(self._define(name, pointer, one, schema.get("description", "")))
        values = schema.get("additionalProperties", True)
        return MapOf(self._type(values, f"{name}Value", pointer) if isinstance(values, dict) else Plain("any"))

    def _union(self, schema: Schema, name: str, pointer: str) -> Type:
        keyword = "oneOf" if "oneOf" in schema else "anyOf"
        if "properties" not in schema:
            found = [
                self._type(option, f"{name}{number}", f"{pointer}/{keyword}/{number}")
                for number, option in enumerate(schema[keyword])
            ]
            return Named(EVENTS) if self._is_every_event(found) else union_of(found)
        options = branches(self._document, schema, keyword, pointer)
        return union_of(
            [
                Named(self._define(f"{name}With{pascal(said)}", f"{pointer}/{keyword}/{number}", whole, ""))
                for number, (said, whole) in enumerate(options)
            ]
        )

    def _is_every_event(self, options: Sequence[Type]) -> bool:
        known = self._definitions.get(EVENTS)
        return isinstance(known, Alias) and known.type == union_of(options)

    def _referred(self, schema: Schema, pointer: str) -> str:
        target = self._document.pointer(schema) or ""
        if target.startswith(MESSAGES) and target.endswith("/payload"):
            return self._message(self._document.messages[target.removeprefix(MESSAGES).removesuffix("/payload")])
        if not target.startswith(SCHEMAS):
            raise DocumentError(f"{pointer}: refers to {target}, which has no name")
        found = self._document.at(target)
        doc = found.get("description", found.get("title", ""))
        return self._define(pascal(target.removeprefix(SCHEMAS)), target, found, doc)

    def _check(self, schema: Schema, pointer: str) -> None:
        unknown = {key for key in schema if key not in _TYPING and key not in _LIMITS}
        if unknown:
            raise DocumentError(f"{pointer}: types cannot tell {', '.join(sorted(unknown))}")
        if "$ref" in schema and len(schema) > 1:
            raise DocumentError(f"{pointer}: what stands beside $ref is ignored; wrap it in allOf")


def _constants(schema: Schema, pointer: str) -> tuple[tuple[str, str | int], ...]:
    """The names that `x-enum-varnames` gives to the values of an enumeration, in their order."""
    names = schema.get("x-enum-varnames")
    if names is None:
        return ()
    if len(names) != len(schema.get("enum", ())):
        raise DocumentError(f"{pointer}: x-enum-varnames names each value of enum once")
    return tuple(zip(names, schema["enum"], strict=True))
