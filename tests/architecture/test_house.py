"""House rules that a linter does not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from matchday.check import QUERIES
from storage import sql
from storage.db import Database

REPOSITORY = Path(__file__).resolve().parents[2]
TOP = ("contracts", "handlers", "integrations", "ledger", "matchday", "storage", "streams")
SOURCES = [path for top in TOP for path in sorted((REPOSITORY / top).rglob("*.py"))]
MONEY = [
    path for path in SOURCES if re.search(r"/(ledger|handlers/(wallet|payments)|integrations/razorpay)/", str(path))
]
MAX_LINES = 500


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if path.stem in ("utils", "helpers", "common", "base", "misc")] == []


def test_no_file_is_too_long_to_read() -> None:
    assert [str(path) for path in SOURCES if len(path.read_text("utf-8").splitlines()) > MAX_LINES] == []


@pytest.mark.parametrize("path", MONEY, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_float_comes_near_an_amount(path: Path) -> None:
    """No call of float() and no float literal in the modules that handle amounts; seconds are named `…_s`."""
    tree = ast.parse(path.read_text("utf-8"))
    calls = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == "float"]
    assert calls == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_sql_lives_in_queries_files(path: Path) -> None:
    if "sandbox" in path.parts or path.name == "embedded.py":  # SQLite of a stand-in; administration of a server
        return
    statement = re.compile(r"^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s+\w+", re.MULTILINE)
    texts = [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
    found = [text for text in texts if isinstance(text, str) and statement.match(text) and text != "SELECT true"]
    assert found == []


async def test_every_named_query_fits_the_schema(database: Database) -> None:
    async with database.connection() as conn:
        refused = [fault for queries in QUERIES for fault in await sql.refused(conn, queries)]
    assert refused == []


def test_every_queries_file_is_checked() -> None:
    files = {
        path.parent.name for top in TOP for path in (REPOSITORY / top).rglob("*.sql") if "sandbox" not in path.parts
    }
    origins = {queries.origin.split("/")[0].rpartition(".")[2] for queries in QUERIES}
    assert files == origins


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
