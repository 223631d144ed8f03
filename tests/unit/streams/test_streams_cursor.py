from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cursor import Cursor, CursorCodec, CursorInvalid

OLD, NEW = "an old secret of thirty-two bytes, at least", "a new secret of thirty-two bytes, at least"
EPOCH = uuid.UUID("01936f2c-7b5a-7c3e-8f00-0123456789ab")
POSITIONS = st.dictionaries(st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1), max_size=8)


@given(epoch=st.uuids(), positions=POSITIONS)
def test_a_cursor_comes_back_as_it_was(epoch: uuid.UUID, positions: dict[int, int]) -> None:
    cursor = Cursor(epoch, positions)
    assert CursorCodec([NEW]).decode(CursorCodec([NEW]).encode(cursor)) == cursor


def test_every_changed_character_is_noticed() -> None:
    codec = CursorCodec([NEW])
    text = codec.encode(Cursor(EPOCH, {0: 4711}))
    for index, char in enumerate(text):
        for other in "AQgw-_09az":
            if other != char:
                with pytest.raises(CursorInvalid):
                    codec.decode(text[:index] + other + text[index + 1 :])


@given(st.text(max_size=500))
def test_any_text_is_a_cursor_or_invalid_and_nothing_else(text: str) -> None:
    with pytest.raises(CursorInvalid):
        CursorCodec([NEW]).decode(text)


def test_a_cut_or_lengthened_cursor_is_invalid() -> None:
    codec = CursorCodec([NEW])
    text = codec.encode(Cursor(EPOCH, {0: 4711}))
    for changed in (text[:-1], text[:-4], text + "A", text + "=", " " + text, text + "\n", ""):
        with pytest.raises(CursorInvalid):
            codec.decode(changed)


def test_nodes_give_the_same_cursor_for_the_same_position() -> None:
    cursor = Cursor(EPOCH, {0: 4711, 1: 9})
    assert CursorCodec([NEW]).encode(cursor) == CursorCodec([NEW, OLD]).encode(Cursor(EPOCH, {1: 9, 0: 4711}))


def test_neighbouring_positions_look_unrelated() -> None:
    codec = CursorCodec([NEW])
    texts = [codec.encode(Cursor(EPOCH, {0: position})) for position in range(1, 200)]
    assert len({text[:12] for text in texts}) == len(texts)
    assert texts != sorted(texts)


def test_secrets_rotate() -> None:
    before = CursorCodec([OLD]).encode(Cursor(EPOCH, {0: 1}))
    assert CursorCodec([NEW, OLD]).decode(before).positions == {0: 1}
    after = CursorCodec([NEW, OLD]).encode(Cursor(EPOCH, {0: 1}))
    assert CursorCodec([NEW]).decode(after).positions == {0: 1}
    with pytest.raises(CursorInvalid):
        CursorCodec([NEW]).decode(before)


def test_secrets_must_be_there_and_long_enough() -> None:
    with pytest.raises(ValueError, match="secret"):
        CursorCodec([])
    with pytest.raises(ValueError, match="32 bytes"):
        CursorCodec([NEW, "short"])
