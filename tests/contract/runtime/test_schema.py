"""OpenAPI 3.0 schemas as validators: what differs from JSON Schema, and how faults are told."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.runtime.schema import Direction, SchemaSet, faults_of

Found = list[tuple[str, str]]


def check(schema: dict[str, Any], value: Any, *, direction: Direction = "request", **schemas: Any) -> Found:
    validator = SchemaSet(schemas, direction).validator(schema)
    found = [(fault.pointer, fault.rule) for fault in faults_of(validator, value)]
    assert validator.is_valid(value) == (not found)
    return found


@pytest.mark.parametrize(
    ("schema", "good", "wrong", "rule"),
    [
        ({"type": "integer"}, 1, 1.0, "type"),
        ({"type": "integer"}, 1, True, "type"),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0.5, 0, "exclusiveMinimum"),
        ({"type": "number", "maximum": 9, "exclusiveMaximum": False}, 9, 9.5, "maximum"),
        ({"type": "integer", "format": "int32"}, 2**31 - 1, 2**31, "maximum"),
        ({"type": "integer", "format": "int32", "minimum": 0}, 0, -1, "minimum"),
        ({"type": "integer", "format": "int32", "minimum": 0, "exclusiveMinimum": True}, 1, 0, "exclusiveMinimum"),
        ({"type": "integer", "format": "int64"}, 2**63 - 1, 2**63, "maximum"),
        ({"type": "string", "pattern": "^[0-9]+$"}, "1", "1\n", "pattern"),
        ({"type": "string", "pattern": r"^\d$"}, "1", "\u0661", "pattern"),
        ({"type": "string", "pattern": "b"}, "abc", "ac", "pattern"),
        ({"type": "string", "maxLength": 2}, "\U0001f600\U0001f600", "abc", "maxLength"),
        ({"type": "string", "format": "decimal"}, "-1.50", "1.", "format"),
        ({"type": "string", "format": "decimal"}, "0", "01", "format"),
        ({"type": "string", "format": "decimal"}, "10", "1e3", "format"),
        ({"type": "string", "format": "date"}, "2000-02-29", "1900-02-29", "format"),
        ({"type": "string", "format": "date"}, "2026-04-30", "2026-04-31", "format"),
        ({"type": "string", "format": "date"}, "0001-01-01", "0000-01-01", "format"),
        ({"type": "string", "format": "date-time"}, "2026-01-01T00:00:00.5+05:30", "2026-01-01 00:00:00Z", "format"),
        ({"type": "string", "format": "time"}, "10:00:00Z", "24:00:00Z", "format"),
        ({"type": "string", "format": "uuid"}, "3f1c9a52-7f64-4f0e-9d0b-2f4f8f2a1c77", "3f1c9a527f644f0e", "format"),
        ({"type": "string", "format": "email"}, "a.b+c@x-y.example", "a..b@example", "format"),
        ({"type": "string", "format": "uri"}, "https://[::1]:80/a?b#c", "http:///x", "format"),
        ({"type": "string", "format": "uri"}, "urn:isbn:1", "a b:c", "format"),
        ({"type": "string", "format": "byte"}, "YQ==", "YQ=", "format"),
        (
            {"type": "string", "format": "typeid", "x-typeid-prefix": "dep"},
            "dep_01kar6m8w3e9q8x2v7c5n4t1zy", "wdr_01kar6m8w3e9q8x2v7c5n4t1zy", "format",
        ),
        ({"type": "string", "format": "date", "pattern": "^20"}, "2026-01-01", "1999-01-01", "pattern"),
        ({"type": "string", "nullable": True, "maxLength": 1}, None, "ab", "maxLength"),
        ({"type": "string", "nullable": True, "enum": ["a"]}, None, "b", "enum"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "integer"}}, [1, 2], [1, 1], "uniqueItems"),
        ({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}, "maxProperties"),
    ],
)  # fmt: skip
def test_keywords(schema: dict[str, Any], good: Any, wrong: Any, rule: str) -> None:
    assert check(schema, good) == []
    assert check(schema, wrong) == [("#", rule)]


def test_faults_point_at_the_field() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["a", "b"],
        "properties": {
            "a": {"type": "array", "items": {"$ref": "#/components/schemas/Leaf"}},
            "b": {"type": "integer"},
        },
    }
    leaf = {"type": "object", "required": ["x"], "properties": {"x": {"type": "string", "maxLength": 1}}}
    found = check(schema, {"a": [{"x": "ab"}, {}], "c/d": 1}, Leaf=leaf)
    assert set(found) == {
        ("#/a/0/x", "maxLength"), ("#/a/1/x", "required"), ("#/b", "required"), ("#/c~1d", "unknown"),
    }  # fmt: skip


def test_a_long_name_is_cut_in_the_pointer() -> None:
    ((pointer, rule),) = check({"type": "object", "additionalProperties": False, "properties": {}}, {"k" * 500: 1})
    assert (pointer, rule) == ("#/" + "k" * 64, "unknown")


def test_a_pointer_is_never_longer_than_contracts_allow() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    (fault,) = check(schema, {"\U0001f600" * 500: "x"})
    assert len(fault[0]) == 300


def test_recursive_schemas() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "child": {"$ref": "#/components/schemas/Tree"}},
    }
    reference = {"$ref": "#/components/schemas/Tree"}
    assert check(reference, {"child": {"child": {"name": "a"}}}, Tree=tree) == []
    assert check(reference, {"child": {"child": {"name": 1}}}, Tree=tree) == [("#/child/child/name", "type")]


def test_read_only_and_write_only() -> None:
    schema = {
        "type": "object",
        "required": ["id", "secret"],
        "properties": {"id": {"type": "string", "readOnly": True}, "secret": {"type": "string", "writeOnly": True}},
    }
    assert check(schema, {"secret": "s"}) == []
    assert check(schema, {"id": "1", "secret": "s"}) == [("#/id", "readOnly")]
    assert check(schema, {"id": "1"}, direction="response") == []
    assert check(schema, {"id": "1", "secret": "s"}, direction="response") == [("#/secret", "writeOnly")]


def test_read_only_behind_a_reference() -> None:
    schema = {"type": "object", "required": ["id"], "properties": {"id": {"$ref": "#/components/schemas/Id"}}}
    assert check(schema, {}, Id={"type": "string", "readOnly": True}) == []
    assert check(schema, {"id": "1"}, Id={"type": "string", "readOnly": True}) == [("#/id", "readOnly")]


CARD = {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}, "n": {"type": "integer"}}}
UPI = {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}, "v": {"type": "string"}}}


@pytest.mark.parametrize("keyword", ["oneOf", "anyOf"])
def test_several_names_may_select_a_branch(keyword: str) -> None:
    card, upi = "#/components/schemas/Card", "#/components/schemas/Upi"
    schema = {
        keyword: [{"$ref": card}, {"$ref": upi}],
        "discriminator": {"propertyName": "kind", "mapping": {"card": card, "upi": upi, "vpa": upi}},
    }
    for value, expected in (
        ({"kind": "card", "n": 1}, []),
        ({"kind": "card", "n": "1"}, [("#/n", "type")]),
        ({"kind": "upi", "v": 1}, [("#/v", "type")]),
        ({"kind": "vpa", "v": 1}, [("#/v", "type")]),
        ({"kind": "Upi"}, [("#/kind", "enum")]),
        ({"kind": 1}, [("#/kind", "enum")]),
        ("card", [("#", "type")]),
    ):
        assert check(schema, value, Card=CARD, Upi=UPI) == expected


def test_nullable_choice() -> None:
    card = "#/components/schemas/Card"
    schema = {
        "nullable": True,
        "oneOf": [{"$ref": card}],
        "discriminator": {"propertyName": "kind", "mapping": {"card": card}},
    }
    assert check(schema, None, Card=CARD) == []
    assert check(schema, {"kind": "card", "n": "x"}, Card=CARD) == [("#/n", "type")]


def test_choices_without_discriminator_are_one_fault() -> None:
    assert check({"oneOf": [{"type": "string"}, {"type": "integer"}]}, 1.5) == [("#", "oneOf")]
    assert check({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}, 1.5) == [("#", "anyOf")]


def test_the_number_of_faults_is_bounded() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    assert len(check(schema, ["x"] * 1000)) == 100


def test_messages_hold_no_value() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "maxLength": 3, "pattern": "^x$", "enum": ["x"]}},
    }
    validator = SchemaSet({}, "request").validator(schema)
    for fault in faults_of(validator, {"a": "secret-value"}):
        assert "secret" not in fault.message
