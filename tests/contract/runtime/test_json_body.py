"""Strict JSON: the fast and the careful reading agree, and what is refused has a place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.runtime.json_body import JsonFaults, parse

LIMIT = 2**63
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-LIMIT, LIMIT - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)
KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)


def faults(data: bytes, depth: int = 32) -> set[tuple[str, str]]:
    with pytest.raises(JsonFaults) as caught:
        parse(data, depth=depth)
    return {(fault.pointer, fault.rule) for fault in caught.value.faults}


# A busy machine is no fault of the code.
calm = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@calm
@given(
    DOCUMENTS,
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
    st.sampled_from([(", ", ": "), (",", ":"), (" ,", " :\n")]),
)
def test_what_json_can_say_is_read(document: Any, ascii_only: bool, indent: Any, separators: tuple[str, str]) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=separators)
    assert parse(text.encode(), depth=64) == document


@calm
@given(st.dictionaries(KEYS, DOCUMENTS, min_size=1), st.sampled_from(["", " ", "\n\t"]))
def test_a_repeated_key_is_found_wherever_colons_are(document: dict[str, Any], space: str) -> None:
    key, value = next(iter(document.items()))
    again = f"{json.dumps(key)}{space}:{json.dumps(value)}"
    text = f"{json.dumps(document)[:-1]}, {again}}}"
    with pytest.raises(JsonFaults) as caught:
        parse(text.encode(), depth=64)
    assert [fault.rule for fault in caught.value.faults] == ["json.duplicate_key"]


@calm
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        document = parse(data, depth=8)
    except JsonFaults:
        return
    assert json.loads(data) == document


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xef\xbb\xbf{}", {("#/body", "json.syntax")}),
        ('{"a": 1}'.encode("utf-16"), {("#/body", "json.encoding")}),
        (b"{'a': 1}", {("#/body", "json.syntax")}),
        (b'{"a": 01}', {("#/body", "json.syntax")}),
        (b'{"a": 1} {}', {("#/body", "json.syntax")}),
        (b"", {("#/body", "json.syntax")}),
        (b'{"a": "\x01"}', {("#/body", "json.syntax")}),
        (b'{"a": [1e999, -1e999]}', {("#/body/a/0", "json.number"), ("#/body/a/1", "json.number")}),
        (b'{"a": 9223372036854775808}', {("#/body/a", "json.number")}),
        (b'{"a": -9223372036854775809}', {("#/body/a", "json.number")}),
        (b"[" + b"9" * 5000 + b"]", {("#/body/0", "json.number")}),
        (b'{"a": 1, "b": {"c": 2, "c": 3}}', {("#/body/b/c", "json.duplicate_key")}),
        (b'{"a": "\\u0000", "b\\u0000": 1}', {("#/body/a", "nul"), ("#/body/b%00", "nul")}),
        (b'{"a": "\\ud800"}', {("#/body/a", "encoding")}),
        (b'{"a/b~c": NaN}', {("#/body/a~1b~0c", "json.nan")}),
        (b"[" * 33 + b"]" * 33, {("#/body", "json.depth")}),
        (b"[" * 200_000, {("#/body", "json.depth")}),
        (b'{"a":' * 200_000, {("#/body", "json.depth")}),
    ],
)
def test_what_is_refused_has_a_place(data: bytes, expected: set[tuple[str, str]]) -> None:
    assert faults(data) == expected


def test_depth_counts_nesting_and_not_brackets() -> None:
    assert parse(b"[" * 32 + b"]" * 32, depth=32)
    siblings = json.dumps([{"a": [1]} for _ in range(500)]).encode()
    assert len(parse(siblings, depth=3)) == 500
    assert faults(siblings, depth=2) == {("#/body", "json.depth")}


def test_brackets_in_texts_are_text() -> None:
    assert parse(json.dumps({"a": "[{" * 100}).encode(), depth=2) == {"a": "[{" * 100}


def test_limits_themselves_are_fine() -> None:
    for number in (LIMIT - 1, -LIMIT, 1e308, 0, -0.5):
        assert parse(json.dumps([number]).encode(), depth=2) == [number]


def test_surrogate_pairs_are_characters() -> None:
    assert parse(b'["\\ud83d\\ude00"]', depth=2) == ["\U0001f600"]
