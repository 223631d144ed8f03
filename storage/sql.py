"""Named queries: every SQL statement of a package in its `queries.sql`, compiled once at import.

A block is `-- name: hold_seat^`, comment lines, the statement. The suffix says what comes back: `^` one row
or None, `*` a list of rows, `$` one value, `!` nothing. `:name` parameters become `$n` once, at load, so that
a call costs no more than the driver's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import asyncpg

from storage.db import Connection

Row = asyncpg.Record

_HEADER = re.compile(r"^-- name: ([a-z][a-z0-9_]*)([$^*!])\s*$", re.MULTILINE)
# Literals, comments and casts are stepped over; what is left of a colon and a word is a parameter.
_TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|::|:=|:([a-z_][a-z0-9_]*)")


class Query:
    """One compiled statement; calling it runs it on a connection with its parameters by name."""

    __slots__ = ("name", "parameters", "returns", "sql")

    def __init__(self, name: str, returns: str, text: str) -> None:
        self.name = name
        self.returns = returns
        self.sql, self.parameters = _positional(text)

    async def __call__(self, conn: Connection, **params: Any) -> Any:
        """Run the statement. A refusal becomes an AppError at the end of the `Database` block around it."""
        if len(params) != len(self.parameters):
            raise TypeError(f"{self.name} takes {self.parameters}, not {tuple(params)}")
        try:
            args = [params[name] for name in self.parameters]
        except KeyError as missing:
            raise TypeError(f"{self.name} needs {missing}") from None
        match self.returns:
            case "^":
                return await conn.raw.fetchrow(self.sql, *args)
            case "*":
                return await conn.raw.fetch(self.sql, *args)
            case "$":
                return await conn.raw.fetchval(self.sql, *args)
            case _:
                # fetch, not execute: the extended protocol with a cached statement, as for the other kinds
                await conn.raw.fetch(self.sql, *args)
                return None


class Queries:
    """The queries of one file as attributes; iterating gives them all, for the check against the schema."""

    def __init__(self, origin: str, queries: dict[str, Query]) -> None:
        self.origin = origin
        self._queries = queries

    def __getattr__(self, name: str) -> Query:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"{self.origin} has no query {name}") from None

    def __iter__(self) -> Iterator[Query]:
        return iter(self._queries.values())


def load(package: str, file: str = "queries.sql") -> Queries:
    """Read and compile the queries of a package. Raises ValueError for a name given twice."""
    return parse(resources.files(package).joinpath(file).read_text("utf-8"), origin=f"{package}/{file}")


def parse(text: str, *, origin: str) -> Queries:
    """Compile the text of a queries file."""
    _, *blocks = _HEADER.split(text)
    queries: dict[str, Query] = {}
    for name, returns, statement in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        if name in queries:
            raise ValueError(f"{origin}: query {name} stands twice")
        queries[name] = Query(name, returns, statement.strip().rstrip(";"))
    return Queries(origin, queries)


async def refused(conn: Connection, queries: Queries) -> list[str]:
    """Prepare every query against the live schema; name those that PostgreSQL refuses, and why."""
    found = []
    for query in queries:
        try:
            await conn.raw.prepare(query.sql)
        except asyncpg.PostgresError as fault:
            found.append(f"query {query.name}: {fault}")
    return found


def _positional(text: str) -> tuple[str, tuple[str, ...]]:
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _TOKEN.sub(number, text), tuple(names)
