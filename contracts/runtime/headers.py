"""Response headers that follow from options and contract, computed once; request identity."""

from __future__ import annotations

import os
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
NO_STORE = "no-store"
API_POLICY = "default-src 'none'; frame-ancestors 'none'"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# W3C Trace Context level 1, section 3.2; version ff and all-zero ids are invalid.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")

request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")

REQUEST_ID_KEY = web.RequestKey("request_id", str)
TRACEPARENT_KEY = web.RequestKey("traceparent", str)


def identify(request: web.Request) -> str:
    """Take or make the request id and the trace context; both are bound to the request and its context variables."""
    headers = request.headers
    random = os.urandom(24).hex()
    trace, span, flags = random[:32], random[32:], "00"
    given = headers.get(TRACEPARENT)
    if given is not None and (match := _TRACEPARENT.fullmatch(given)):
        trace, flags = match[1], match[2]
    identifier = headers.get(REQUEST_ID)
    if identifier is None or _REQUEST_ID.fullmatch(identifier) is None:
        identifier = trace
    request[REQUEST_ID_KEY] = identifier
    request[TRACEPARENT_KEY] = f"00-{trace}-{span}-{flags}"
    request_id.set(identifier)
    trace_id.set(trace)
    return identifier


def common_headers(options: RuntimeOptions) -> dict[str, str]:
    """Headers of every response that does not set its own."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": API_POLICY,
        "X-Frame-Options": "DENY",
        "Cache-Control": NO_STORE,
        "Server": "api",
    }
    if options.hsts:
        headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    if options.cors_origins:
        headers["Vary"] = "Origin"
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
