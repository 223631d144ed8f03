"""Which of several media types an Accept header likes best."""

from __future__ import annotations

import pytest

from contracts.runtime import preferred

OFFERED = ("application/json", "text/csv", "application/pdf")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("nonsense", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("application/pdf, application/json", "application/json"),
        ("application/json;q=0.5, application/pdf", "application/pdf"),
        ("text/*;q=0.2, */*;q=0.1", "text/csv"),
        ("application/*, application/json;q=0", "application/pdf"),
        ("*/*, application/json;q=0.1, text/csv;q=0.2", "application/pdf"),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_the_best_liked_one_is_chosen_and_the_first_of_equals(accept: str, chosen: str | None) -> None:
    assert preferred(accept, OFFERED) == chosen
