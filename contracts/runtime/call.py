"""What a handler receives and what it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True, eq=False)
class Call:
    """One validated request.

    `path`, `query`, `headers` and `cookies` hold the parameters the contract declares, under their contract names,
    parsed to their declared types; an absent one with a default carries the default, any other absent one is missing
    from the dict. `body` is parsed JSON, a form as a dict (files as `Upload`), or None when there is none. `raw` holds
    the untouched bytes for operations with `x-raw-body: true` and is empty otherwise. `principal` is what the security
    handler returned (a dict by scheme name when several schemes were required together), `scopes` what the principal
    was granted if it says so in a `scopes` attribute, else what the operation required.
    """

    request: web.Request
    operation_id: str
    path: dict[str, Any]
    query: dict[str, Any]
    headers: dict[str, Any]
    cookies: dict[str, Any]
    body: Any
    raw: bytes
    principal: Any
    scopes: frozenset[str]
    request_id: str


@dataclass(slots=True, eq=False)
class Reply:
    """A JSON answer; `body` None sends no body. Amounts are strings: a Decimal in `body` is a bug and answers 500."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a multipart form, held in memory (its size is bounded by the operation's body limit)."""

    filename: str
    content_type: str
    content: bytes


Handler = Callable[[Call], Awaitable[Reply | web.StreamResponse]]
SecurityHandler = Callable[[web.Request, str, Sequence[str]], Awaitable[Any]]
