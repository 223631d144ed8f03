"""How one API is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

RequestObserver = Callable[[str, str, str, int, float], None]


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Settings of `create_api`.

    `type_base` is the URI prefix of problem types. `max_body_bytes` is overridden per operation by `x-max-body-bytes`;
    a body must arrive within `body_timeout_s`. `cors_origins` are exact origins; listed ones may send credentials.
    `response_validation`: `strict` answers 500 on a response that breaks the contract, `sampled` checks
    `response_sample_rate` of them and changes nothing; both log and append to `response_violations`, a list the caller
    owns. `request_observer` is called once per request with method, route template, operation id ("" outside the
    contracts), status and seconds. `links` are (text, URL) pairs on the index page. `cursor` says what this
    process has seen of the events: asked before the handler of an operation that declares the header Realtime-Cursor.
    """

    type_base: str = "urn:problem:"
    title: str = "API"
    description: str = ""
    version: str = "1"
    max_body_bytes: int = 1024 * 1024
    body_timeout_s: float = 30.0
    json_depth: int = 32
    cors_origins: tuple[str, ...] = ()
    cors_max_age_s: int = 600
    hsts: bool = False
    gzip_min_bytes: int = 1024
    response_validation: Literal["off", "sampled", "strict"] = "off"
    response_sample_rate: float = 0.01
    response_violations: list[str] | None = None
    request_observer: RequestObserver | None = None
    links: tuple[tuple[str, str], ...] = ()
    cursor: Callable[[], str] | None = None
