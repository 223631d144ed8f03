from __future__ import annotations

import pytest

from contracts.runtime.problem import InvalidParameter
from storage import paging


@pytest.mark.parametrize("position", [0, 1, 42, 2**63 - 1])
def test_a_cursor_comes_back_as_its_position(position: int) -> None:
    assert paging.decode(paging.encode(position)) == position


@pytest.mark.parametrize("cursor", ["x", "MDE", "LTE", "4pG", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "NDI=", "____"])
def test_anything_else_is_a_fault_of_the_parameter(cursor: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        paging.decode(cursor)
    assert refusal.value.errors is not None
    assert refusal.value.errors[0].pointer == "#/query/cursor"
