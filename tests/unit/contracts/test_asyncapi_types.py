"""From schemas to types, on small documents: what composes, what is named how, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts.asyncapi import DocumentError, EventsDocument, types_in

STRING = {"type": "string"}


def document(payload: dict[str, Any], **schemas: Any) -> EventsDocument:
    """A document with one message, `note`, that a client sends over a WebSocket."""
    reference = {"$ref": "#/channels/socket/messages/note"}
    content = {
        "asyncapi": "3.0.0",
        "info": {"title": "Sample", "version": "1.0.0"},
        "servers": {"one": {"host": "example.org", "protocol": "wss"}},
        "channels": {
            "socket": {
                "address": "/ws",
                "servers": [{"$ref": "#/servers/one"}],
                "messages": {"note": {"$ref": "#/components/messages/note"}},
            }
        },
        "operations": {
            "send": {"action": "receive", "channel": {"$ref": "#/channels/socket"}, "messages": [reference]}
        },
        "components": {"messages": {"note": {"title": "A note", "payload": payload}}, "schemas": schemas},
    }
    return EventsDocument(json.dumps(content).encode())


def closed(properties: dict[str, Any], *required: str, **members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **members}


def typescript(payload: dict[str, Any], **schemas: Any) -> str:
    return types_in("typescript", document(payload, **schemas))


def python(payload: dict[str, Any], **schemas: Any) -> str:
    return types_in("python", document(payload, **schemas))


@pytest.mark.parametrize(
    ("schema", "in_typescript", "in_python"),
    [
        (STRING, "string", "str"),
        ({"type": "integer", "minimum": 0}, "number", "int"),
        ({"type": "number"}, "number", "float"),
        ({"type": "boolean"}, "boolean", "bool"),
        ({"type": ["string", "null"]}, "string | null", "str | None"),
        ({"enum": ["a", 1, True, None]}, '"a" | 1 | true | null', 'Literal["a", 1, True, None]'),
        ({"const": "a"}, '"a"', 'Literal["a"]'),
        ({"type": "array", "items": STRING}, "string[]", "list[str]"),
        ({"type": "array", "items": {"enum": [1, 2]}}, "(1 | 2)[]", "list[Literal[1, 2]]"),
        ({"type": "object"}, "Record<string, unknown>", "dict[str, object]"),
        ({"type": "object", "additionalProperties": STRING}, "Record<string, string>", "dict[str, str]"),
        ({"oneOf": [STRING, {"type": "null"}]}, "string | null", "str | None"),
        ({"anyOf": [STRING, STRING]}, "string", "str"),
        ({"$ref": "#/components/schemas/Id"}, "Id", "Id"),
        ({"allOf": [{"$ref": "#/components/schemas/Id"}, {"description": "Mine."}]}, "string", "str"),
        (closed({"b": STRING}, "b"), "NoteMessageA", "NoteMessageA"),
    ],
)  # fmt: skip
def test_types(schema: dict[str, Any], in_typescript: str, in_python: str) -> None:
    payload = closed({"a": schema, "b": schema}, "a")
    made = typescript(payload, Id=STRING)
    assert f"  a: {in_typescript};\n" in made
    assert f"  b?: {in_typescript.replace('MessageA', 'MessageB')};\n" in made
    made = python(payload, Id=STRING)
    assert f"    a: {in_python}\n" in made
    assert f"    b: NotRequired[{in_python.replace('MessageA', 'MessageB')}]\n" in made


def test_what_all_of_narrows_is_written_out() -> None:
    base = closed({"kind": STRING, "data": {"type": "object"}, "note": STRING}, "kind", "data")
    payload = {
        "allOf": [
            {"$ref": "#/components/schemas/Base"},
            {"properties": {"kind": {"enum": ["a"]}, "data": {"$ref": "#/components/schemas/Data"}}},
        ]
    }
    made = typescript(payload, Base=base, Data=closed({"x": STRING}))
    assert 'export interface NoteMessage {\n  kind: "a";\n  data: Data;\n  note?: string;\n}' in made
    assert "Base" not in made


def test_branches_of_an_object_are_a_union() -> None:
    payload = closed({"op": {"enum": ["n"]}, "a": STRING, "b": STRING}, "op")
    one_of = {**payload, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    made = typescript(one_of)
    assert 'NoteMessageWithA {\n  op: "n";\n  a: string;\n  b?: never;\n}' in made
    assert "export type NoteMessage = NoteMessageWithA | NoteMessageWithB;" in made
    assert "b: " not in python(one_of).partition("class NoteMessageWithA")[2].partition("class ")[0]
    any_of = {**payload, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert 'NoteMessageWithA {\n  op: "n";\n  a: string;\n  b?: string;\n}' in typescript(any_of)


def test_names_that_a_language_does_not_take_as_they_are() -> None:
    payload = closed({"from": STRING, "a-b": STRING}, "from")
    assert '  from: string;\n  "a-b"?: string;\n' in typescript(payload)
    made = python(payload)
    assert 'NoteMessage = TypedDict("NoteMessage", {\n    "from": str,\n    "a-b": NotRequired[str],\n})' in made
    compile(made, "events.py", "exec")


def test_texts_cannot_break_out_of_comments() -> None:
    text = 'It ends */ here, """ there, and in a \\ \n# line'
    payload = closed({"a": {**STRING, "description": text}}, "a")
    sample = document(payload)
    sample.content["components"]["messages"]["note"]["description"] = text
    assert "*/ here" not in types_in("typescript", sample)
    made = types_in("python", sample)
    compile(made, "events.py", "exec")
    module: dict[str, Any] = {}
    exec(made, module)  # noqa: S102 - our own output
    assert '"""' in module["NoteMessage"].__doc__


def test_named_values_become_constants() -> None:
    code = {"type": "integer", "enum": [1, 2], "x-enum-varnames": ["one", "two"]}
    payload = closed({"a": {"$ref": "#/components/schemas/Code"}})
    made = typescript(payload, Code=code)
    assert "export const Code = {\n  one: 1,\n  two: 2,\n} as const;" in made
    assert "CODE_TWO: Final = 2" in python(payload, Code=code)


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (closed({"a": {"patternProperties": {}}}), r"messages/note/properties/a: types cannot tell patternProperties"),
        (closed({"a": {"if": {}, "not": {}}}), r"/a: types cannot tell if, not"),
        (closed({"a": {}}), r"/a: has no type"),
        (closed({"a": {"type": "date"}}), r"/a: has the unknown type date"),
        (closed({"a": {"type": "array"}}), r"/a: has no items"),
        (closed({"a": STRING}, "b"), r"note: requires b and does not describe it"),
        (closed({"a": {"$ref": "#/components/schemas/Id", "description": "Mine."}}), r"/a: what stands beside \$ref is ignored"),
        (closed({"a": {"$ref": "#/components/schemas/Nobody"}}), r"\$ref #/components/schemas/Nobody does not resolve"),
        (closed({"a": {"$ref": "elsewhere.yaml#/Id"}}), r"\$ref elsewhere.yaml#/Id does not resolve"),
        (closed({"a": {"$ref": "#/servers/one"}}), r"/a: refers to #/servers/one, which has no name"),
        (closed({"a": {"$ref": "#/components/schemas/Tree"}}), r"#/components/schemas/Tree: contains itself"),
        (closed({"a": {"$ref": "#/components/schemas/NoteMessage"}}), r"NoteMessage is also the name of #/components/messages/note"),
        (closed({"a": {"$ref": "#/components/schemas/ClientMessage"}}), r"ClientMessage is also the name of a union of messages"),
        (closed({"a": {"$ref": "#/components/schemas/Code"}}), r"Code: x-enum-varnames names each value of enum once"),
        (closed({"a": STRING}, oneOf=[{"minProperties": 1}]), r"note/oneOf: a branch beside properties has required"),
        ({"allOf": [closed({"a": STRING}), closed({"a": {"$ref": "#/components/schemas/Code"}})]}, r"/a: is of two types at once"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_by_its_place(payload: dict[str, Any], fault: str) -> None:
    tree = closed({"children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}})
    code = {"type": "integer", "enum": [1, 2], "x-enum-varnames": ["one"]}
    with pytest.raises(DocumentError, match=fault):
        typescript(payload, Id=STRING, Tree=tree, Code=code, NoteMessage=tree, ClientMessage=tree)
