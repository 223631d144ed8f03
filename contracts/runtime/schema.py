"""OpenAPI 3.0 schemas compiled to validators, and validation errors told as faults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

import jsonschema_rs

from contracts.runtime.formats import PATTERNS, TYPEID, TYPEID_PREFIX, format_of, typeid_pattern
from contracts.runtime.problem import Fault

Direction = Literal["request", "response"]
Schema = dict[str, Any]

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (INT64_MIN, INT64_MAX)}
# Refuses every value; the description tells `_faults` which rule it stands for.
_REFUSALS: dict[str, Schema] = {rule: {"not": {"description": rule}} for rule in ("readOnly", "writeOnly")}
_COPIED = (
    "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern",
    "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties",
)  # fmt: skip
_REFERENCE_PREFIX = "#/components/schemas/"
MAX_FAULTS = 100
_NAME_LIMIT = 64
_POINTER_LIMIT = 300
_PATTERN_LIMIT = 200


class SchemaSet:
    """The schemas of one contract in one direction, translated to JSON Schema draft 4.

    Draft 4 is the draft OpenAPI 3.0 extends: boolean exclusive limits, siblings of `$ref` ignored and 1.0 no integer
    need no translation. What does: nullable, readOnly (refused in requests), writeOnly (refused in responses),
    discriminator (the named branch alone decides) and formats, which become ranges and patterns.
    """

    def __init__(self, schemas: Mapping[str, Schema], direction: Direction) -> None:
        self._forbidden = "readOnly" if direction == "request" else "writeOnly"
        self._uri = f"urn:contract:{direction}"
        self._schemas = schemas
        self._compiled: dict[str, jsonschema_rs.Validator] = {}
        translated = {name: self.translate(schema) for name, schema in schemas.items()}
        document = {"$schema": "http://json-schema.org/draft-04/schema#", "components": {"schemas": translated}}
        self._registry = jsonschema_rs.Registry([(self._uri, document)])

    def compile(self, translated: Schema) -> jsonschema_rs.Validator:
        """Compile an already translated schema."""
        return jsonschema_rs.Draft4Validator(translated, registry=self._registry, validate_formats=False, offline=True)

    def validator(self, schema: Schema) -> jsonschema_rs.Validator:
        """Translate and compile a schema of the contract; a reference is compiled once."""
        reference = schema.get("$ref")
        if reference is None:
            return self.compile(self.translate(schema))
        if reference not in self._compiled:
            self._compiled[reference] = self.compile(self.translate(schema))
        return self._compiled[reference]

    def translate(self, schema: Schema) -> Schema:
        """Write one OpenAPI 3.0 schema as draft 4."""
        if "$ref" in schema:
            return {"$ref": self._uri + schema["$ref"]}
        result: Schema = {name: schema[name] for name in _COPIED if name in schema}
        _translate_type(schema, result)
        self._translate_object(schema, result)
        if "items" in schema:
            result["items"] = self.translate(schema["items"])
        if "not" in schema:
            result["not"] = self.translate(schema["not"])
        parts = [self.translate(part) for part in schema.get("allOf", ())]
        if (pattern := _format_pattern(schema)) is not None:
            if "pattern" in result:
                parts.append({"pattern": pattern})
            else:
                result["pattern"] = pattern
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                parts.append(self._translate_choice(keyword, schema))
        if parts:
            result["allOf"] = parts
        return self._nullable(schema, result)

    def _translate_object(self, schema: Schema, result: Schema) -> None:
        properties = schema.get("properties")
        forbidden: set[str] = set()
        if properties is not None:
            forbidden = {name for name, child in properties.items() if self._is_forbidden(child)}
            result["properties"] = {
                name: _REFUSALS[self._forbidden] if name in forbidden else self.translate(child)
                for name, child in properties.items()
            }
        required = [name for name in schema.get("required", ()) if name not in forbidden]
        if required:
            result["required"] = required
        additional = schema.get("additionalProperties")
        if additional is not None:
            result["additionalProperties"] = additional if isinstance(additional, bool) else self.translate(additional)

    def _is_forbidden(self, schema: Schema) -> bool:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].removeprefix(_REFERENCE_PREFIX)]
        return bool(schema.get(self._forbidden))

    def _translate_choice(self, keyword: str, schema: Schema) -> Schema:
        branches = schema[keyword]
        discriminator = schema.get("discriminator")
        if discriminator is None:
            return {keyword: [self.translate(branch) for branch in branches]}
        name = discriminator["propertyName"]
        # The lint asks for a mapping that names every branch.
        values = discriminator["mapping"]
        return {
            "type": "object",
            "required": [name],
            "properties": {name: {"enum": sorted(values)}},
            "allOf": [
                {
                    "anyOf": [
                        {"not": {"required": [name], "properties": {name: {"enum": [value]}}}},
                        {"$ref": self._uri + reference},
                    ]
                }
                for value, reference in values.items()
            ],
        }

    @staticmethod
    def _nullable(schema: Schema, result: Schema) -> Schema:
        if not schema.get("nullable"):
            return result
        if set(result) <= {"type", *_COPIED}:
            return {**result, "type": [result["type"], "null"]} if "type" in result else result
        return {"anyOf": [result, {"type": "null"}]}


def _translate_type(schema: Schema, result: Schema) -> None:
    for keyword in ("type", "enum"):
        if keyword in schema:
            result[keyword] = schema[keyword]
    name = schema.get("format")
    if name in _RANGES and schema.get("type") == "integer":
        low, high = _RANGES[name]
        if result.get("minimum", low) <= low:
            result["minimum"] = low
            result.pop("exclusiveMinimum", None)
        if result.get("maximum", high) >= high:
            result["maximum"] = high
            result.pop("exclusiveMaximum", None)
    elif name == "binary":
        for keyword in ("maxLength", "minLength", "pattern"):
            result.pop(keyword, None)


def _format_pattern(schema: Schema) -> str | None:
    if schema.get("format") == TYPEID:
        return typeid_pattern(schema[TYPEID_PREFIX])
    return PATTERNS.get(schema.get("format", ""))


def pointer(steps: Iterable[str | int]) -> str:
    """Write a JSON pointer in URI-fragment form; names that nobody could have meant are cut, so is what they make."""
    return ("#" + "".join("/" + _escape(step) for step in steps))[:_POINTER_LIMIT]


def _escape(step: str | int) -> str:
    text = str(step)[:_NAME_LIMIT].replace("~", "~0").replace("/", "~1")
    return quote(text, safe="!$&'()*+,;=:@~", errors="replace")


def faults_of(
    validator: jsonschema_rs.Validator, instance: Any, root: tuple[str | int, ...] = (), limit: int = MAX_FAULTS
) -> list[Fault]:
    """Every fault of an instance, at most `limit`, in document order of the validator, each once."""
    faults: dict[Fault, None] = {}
    for error in validator.iter_errors(instance):
        for fault in _faults(error, root):
            faults[fault] = None
        if len(faults) >= limit:
            break
    return list(faults)[:limit]


def _faults(error: jsonschema_rs.ValidationError, root: tuple[str | int, ...]) -> Iterator[Fault]:
    kind: Any = error.kind
    place = (*root, *error.instance_path)
    match kind.name:
        case "required":
            yield Fault(pointer((*place, kind.property)), "required", "is required")
        case "additionalProperties":
            for name in kind.unexpected:
                yield Fault(pointer((*place, name)), "unknown", "is not a known field")
        case "anyOf" if (branch := _decisive_branch(kind.context)) is not None:
            for inner in branch:
                yield from _faults(inner, root)
        case "pattern" if (name := format_of(kind.pattern)) is not None:
            yield Fault(pointer(place), "format", f"must be a valid {name}")
        case "not" if {"not": kind.schema} == _REFUSALS["readOnly"]:
            yield Fault(pointer(place), "readOnly", "is set by the server and must not be sent")
        case "not" if {"not": kind.schema} == _REFUSALS["writeOnly"]:
            yield Fault(pointer(place), "writeOnly", "is never told")
        case name:
            yield Fault(pointer(place), name, _message(kind))


def _decisive_branch(context: list[list[jsonschema_rs.ValidationError]]) -> list[jsonschema_rs.ValidationError] | None:
    """The branch to report of the two-armed anyOf that nullable and discriminator are translated to."""
    if len(context) != 2:
        return None
    first, second = context
    if len(first) == 1 and first[0].kind.name == "not":
        return second
    if len(second) == 1 and second[0].kind.name == "type":
        kind: Any = second[0].kind
        if kind.types == ["null"]:
            return first
    return None


_LIMIT_MESSAGES = {
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} fields",
    "maxProperties": "must have at most {} fields",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
}


def _message(kind: Any) -> str:
    name = kind.name
    if name in _LIMIT_MESSAGES:
        return _LIMIT_MESSAGES[name].format(kind.limit)
    match name:
        case "type":
            return f"must be of type {' or '.join(kind.types)}"
        case "enum":
            return "must be one of the values the contract lists"
        case "pattern":
            return f"must match {kind.pattern[:_PATTERN_LIMIT]}"
        case "multipleOf":
            return f"must be a multiple of {kind.multiple_of}"
        case "uniqueItems":
            return "must not repeat an item"
        case "oneOf" | "oneOfMultipleValid" | "oneOfNotValid":
            return "must match exactly one of the alternatives"
        case "anyOf":
            return "must match one of the alternatives"
    return "breaks the contract"


ASCII_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
ASCII_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
