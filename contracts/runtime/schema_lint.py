"""The part of the lint that looks into schemas: closed, bounded, readable; examples that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from contracts.runtime.formats import NUMBER_FORMATS, PATTERNS, TYPEID, TYPEID_PREFIX, UNCHECKED
from contracts.runtime.loading import Contract
from contracts.runtime.schema import Direction, SchemaSet, faults_of

_COMBINERS = ("allOf", "oneOf", "anyOf")
# Formats whose texts have a greatest length of their own.
_BOUNDED_FORMATS = frozenset({"uuid", "date", "time", "date-time", "email", TYPEID, "binary"})
_PREFIX = re.compile(r"[a-z](?:[a-z_]{0,61}[a-z])?")


class SchemaLint:
    """Rules about the schemas of one contract; a component is looked at once."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._components: Mapping[str, Any] = contract.document["components"].get("schemas", {})
        self._validators: dict[tuple[str, Direction], jsonschema_rs.Validator] = {}
        self._sets: dict[Direction, SchemaSet] = {}
        self._broken = False
        self._requested: set[str] = set()

    def component_faults(self) -> Iterator[str]:
        """Faults of every component schema, whichever way it is used."""
        for name, schema in self._components.items():
            for fault in self._form_faults(schema, f"schemas/{name}"):
                self._broken = True
                yield fault
        if self._broken:
            return
        try:
            self._sets = {"request": self._new_set("request"), "response": self._new_set("response")}
            for name in self._components:
                self._sets["response"].validator({"$ref": f"#/components/schemas/{name}"})
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            self._broken = True
            yield f"schemas: {' '.join(str(error).split())}"
            return
        for name, schema in self._components.items():
            for place, node in _walk(schema, f"schemas/{name}"):
                if "example" in node and not self._has_directions(node):
                    for fault in self.value_faults("example", node["example"], node, "response"):
                        yield f"{place}: {fault}"

    def _new_set(self, direction: Direction) -> SchemaSet:
        return SchemaSet(self._components, direction)

    def _has_directions(self, schema: Mapping[str, Any]) -> bool:
        return any("writeOnly" in self._contract.resolve(child) for child in schema.get("properties", {}).values())

    def request_faults(self, schema: Mapping[str, Any], place: str) -> Iterator[str]:
        """What is missing before a schema may read what strangers send: a closed shape and a bound on everything."""
        yield from self._request_faults(schema, place or "schema")

    def response_faults(self, schema: Mapping[str, Any], place: str) -> Iterator[str]:
        """Faults of a schema written in place."""
        if "$ref" not in schema:
            yield from self._form_faults(schema, place)
        elif len(schema) > 1:
            yield f"{place}: siblings of $ref are ignored; wrap it in allOf"

    def _request_faults(self, schema: Mapping[str, Any], start: str) -> Iterator[str]:
        stack = [(start, schema)]
        while stack:
            place, node = stack.pop()
            if "$ref" in node:
                if len(node) > 1:
                    yield f"{place}: siblings of $ref are ignored; wrap it in allOf"
                name = node["$ref"].removeprefix("#/components/schemas/")
                if name not in self._requested:
                    self._requested.add(name)
                    stack.append((f"schemas/{name}", self._components[name]))
                continue
            if not place.startswith("schemas/"):
                yield from self._one_form_faults(node, place)
            yield from self._bound_faults(node, place)
            stack.extend((f"{place}/{step}", child) for step, child in _children(node))

    def _bound_faults(self, node: Mapping[str, Any], place: str) -> Iterator[str]:
        for keyword in _COMBINERS:
            if len(node.get(keyword, ())) > 1 and "discriminator" not in node:
                objects = [part for part in node[keyword] if self._contract.resolve(part).get("type") != "string"]
                if keyword == "allOf" and objects:
                    yield f"{place}: allOf cannot be closed in a request; write the properties out"
                elif len(objects) > 1:
                    yield f"{place}: {keyword} in a request needs a discriminator"
        if "enum" in node:
            return
        match node.get("type"):
            case "string":
                if "maxLength" not in node and node.get("format") not in _BOUNDED_FORMATS:
                    yield f"{place}: a string in a request needs maxLength"
            case "array":
                if "maxItems" not in node:
                    yield f"{place}: an array in a request needs maxItems"
            case "integer":
                if node.get("format") not in NUMBER_FORMATS and not {"minimum", "maximum"} <= node.keys():
                    yield f"{place}: an integer in a request needs minimum and maximum"
            case "number":
                if not {"minimum", "maximum"} <= node.keys():
                    yield f"{place}: a number in a request needs minimum and maximum"
            case "object":
                additional = node.get("additionalProperties", True)
                if additional is True or additional == {}:
                    yield f"{place}: an object in a request needs additionalProperties: false"
                elif additional is not False and "maxProperties" not in node:
                    yield f"{place}: a map in a request needs maxProperties"
            case None if not any(keyword in node for keyword in _COMBINERS):
                yield f"{place}: a schema in a request needs a type"

    def _form_faults(self, schema: Mapping[str, Any], place: str) -> Iterator[str]:
        for place_of_node, node in _walk(schema, place):
            yield from self._one_form_faults(node, place_of_node)

    def _one_form_faults(self, node: Mapping[str, Any], place: str) -> Iterator[str]:
        if "$ref" in node:
            if len(node) > 1:
                yield f"{place}: siblings of $ref are ignored; wrap it in allOf"
            if not node["$ref"].startswith("#/components/schemas/"):
                yield f"{place}: a schema refers to components/schemas only"
            return
        name = node.get("format")
        if name is not None and not (name in PATTERNS or name in UNCHECKED | NUMBER_FORMATS | {TYPEID}):
            yield f"{place}: format {name} is not checked by this runtime"
        if name == TYPEID and _PREFIX.fullmatch(str(node.get(TYPEID_PREFIX))) is None:
            yield f"{place}: format typeid needs {TYPEID_PREFIX}"
        if node.get("type") == "array" and "items" not in node:
            yield f"{place}: an array needs items"
        if node.get("readOnly") and node.get("writeOnly"):
            yield f"{place}: readOnly and writeOnly exclude each other"
        if "discriminator" in node:
            yield from self._discriminator_faults(node, place)

    def _discriminator_faults(self, node: Mapping[str, Any], place: str) -> Iterator[str]:
        branches = node.get("oneOf") or node.get("anyOf") or []
        if not branches or any("$ref" not in branch for branch in branches):
            yield f"{place}: a discriminator needs oneOf or anyOf whose branches are all $ref"
            return
        name = node["discriminator"]["propertyName"]
        targets = set(node["discriminator"].get("mapping", {}).values())
        if targets != {branch["$ref"] for branch in branches}:
            yield f"{place}: the mapping of a discriminator must lead to each branch, and nowhere else"
            return
        for reference in sorted(targets):
            branch = self._contract.resolve({"$ref": reference})
            if name not in branch.get("properties", {}) or name not in branch.get("required", ()):
                yield f"{place}: {reference} must declare and require {name}"

    def example_faults(
        self, holder: Mapping[str, Any], schema: Mapping[str, Any], direction: Direction, *, required: bool = False
    ) -> Iterator[str]:
        """Examples beside a schema must satisfy it; with `required` there must be one, here or in the schema."""
        given = [("example", holder["example"])] if "example" in holder else []
        for name, node in holder.get("examples", {}).items():
            example = self._contract.resolve(node)
            if "value" in example:
                given.append((f"examples/{name}", example["value"]))
        if required and not given and not self._illustrates(schema):
            yield "needs an example"
        for name, value in given:
            yield from self.value_faults(name, value, schema, direction)

    def _illustrates(self, schema: Mapping[str, Any]) -> bool:
        """Whether a schema carries an example, or each of its properties does."""
        node = self._contract.resolve(schema)
        if "example" in node or "enum" in node:
            return True
        properties = node.get("properties")
        return bool(properties) and all(
            any(word in self._contract.resolve(child) for word in ("example", "enum")) for child in properties.values()
        )

    def value_faults(self, name: str, value: Any, schema: Mapping[str, Any], direction: Direction) -> Iterator[str]:
        """Faults of an example or default against its schema."""
        if self._broken:
            return
        # Equal texts share a validator; the repr of plain data is its identity here.
        key = (repr(schema), direction)
        if key not in self._validators:
            try:
                self._validators[key] = self._sets[direction].validator(dict(schema))
            except (ValueError, jsonschema_rs.ReferencingError) as error:
                yield f"schema: {' '.join(str(error).split())}"
                return
        validator = self._validators[key]
        if not validator.is_valid(value):
            for fault in faults_of(validator, value):
                yield f"{name} {fault.pointer}: {fault.message} ({fault.rule})"


def _walk(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A schema and everything written inside it, with the place of each; references are not followed."""
    stack = [(place, schema)]
    while stack:
        place, node = stack.pop()
        yield place, node
        stack.extend((f"{place}/{step}", child) for step, child in _children(node))


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Schemas directly inside a schema, with the step that leads to each."""
    for name, child in node.get("properties", {}).items():
        yield f"properties/{name}", child
    for keyword in _COMBINERS:
        for index, child in enumerate(node.get(keyword, ())):
            yield f"{keyword}/{index}", child
    for keyword in ("items", "not"):
        if keyword in node:
            yield keyword, node[keyword]
    if isinstance(node.get("additionalProperties"), dict):
        yield "additionalProperties", node["additionalProperties"]
