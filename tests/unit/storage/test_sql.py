from __future__ import annotations

import pytest

from storage import sql


def test_names_become_positions_once_and_text_stays() -> None:
    queries = sql.parse(
        """-- name: pick^
-- A comment with :no_parameter in it.
SELECT ':neither' AS text, a::text, :first, :second::int, :first -- :nor_this
FROM t WHERE b = :second;
""",
        origin="here",
    )
    assert queries.pick.parameters == ("first", "second")
    assert "SELECT ':neither' AS text, a::text, $1, $2::int, $1" in queries.pick.sql
    assert queries.pick.sql.endswith("WHERE b = $2")
    assert queries.pick.returns == "^"


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        sql.parse("-- name: a!\nSELECT 1;\n-- name: a$\nSELECT 2;\n", origin="here")


async def test_a_missing_or_unknown_parameter_is_a_bug_of_the_caller() -> None:
    query = sql.parse("-- name: a$\nSELECT :x;\n", origin="here").a
    with pytest.raises(TypeError):
        await query(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await query(None, y=1)  # type: ignore[arg-type]


def test_an_unknown_query_is_named() -> None:
    with pytest.raises(AttributeError, match="here has no query nothing"):
        _ = sql.parse("", origin="here").nothing
