"""Response headers that follow from options and contract, computed once; request identity."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from contracts.runtime.options import RuntimeOptions

REQUEST_ID = "X-Request-ID"
TRACEPARENT = "traceparent"
REALTIME_CURSOR = "Realtime-Cursor"
NO_STORE = "no-store"
API_POLICY = "default-src 'none'; frame-ancestors 'none'"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# W3C Trace Context level 1, section 3.2; version ff and all-zero ids are invalid.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


class Exchange:
    """One request being answered: its id, its place in a trace, the operation that took it.

    `cursor` is what this process had seen of the events before the operation began to read, where its contract asks.
    """

    __slots__ = ("cursor", "operation", "request_id", "traceparent")

    def __init__(self, request_id: str, traceparent: str) -> None:
        self.request_id = request_id
        self.traceparent = traceparent
        self.operation: Any = None
        self.cursor: str | None = None


exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current_request_id() -> str:
    """Id of the request being answered, for logs; empty outside a request."""
    current = exchange.get()
    return current.request_id if current is not None else ""


def current_trace_id() -> str:
    """Trace id (W3C) of the request being answered; empty outside a request."""
    current = exchange.get()
    return current.traceparent[3:35] if current is not None else ""


def new_identifier() -> str:
    """A request id of 32 hexadecimal digits."""
    return f"{random.getrandbits(128):032x}"


def begin_exchange(request: web.Request) -> Exchange:
    """Take or make the request id and the trace context, and bind them to the running context."""
    headers = request.headers
    # Identifiers must be unlike each other, not secret: the generator of `random` is reseeded in every fork.
    digits = f"{random.getrandbits(192) | 1:048x}"
    trace_id = digits[:32]
    traceparent = f"00-{trace_id}-{digits[32:]}-00"
    if TRACEPARENT in headers and (match := _TRACEPARENT.fullmatch(headers[TRACEPARENT])):
        trace_id = match[1]
        traceparent = f"00-{trace_id}-{digits[32:]}-{match[2]}"
    identifier = headers.get(REQUEST_ID)
    if identifier is None or _REQUEST_ID.fullmatch(identifier) is None:
        identifier = trace_id
    current = Exchange(identifier, traceparent)
    exchange.set(current)
    return current


def common_headers(options: RuntimeOptions) -> dict[str, str]:
    """Headers of every response that does not set its own."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": API_POLICY,
        "Cache-Control": NO_STORE,
        "Server": "api",
    }
    if options.hsts:
        headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    return headers


def deprecation_headers(operation: Mapping[str, Any]) -> dict[str, str]:
    """`Deprecation` (RFC 9745) and `Sunset` (RFC 8594) of an operation, from x-deprecated-at and x-sunset."""
    headers = {}
    if operation.get("deprecated") and "x-deprecated-at" in operation:
        headers["Deprecation"] = f"@{int(_instant(operation['x-deprecated-at']).timestamp())}"
    if "x-sunset" in operation:
        headers["Sunset"] = format_datetime(_instant(operation["x-sunset"]), usegmt=True)
    return headers


def _instant(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), time(), UTC)
