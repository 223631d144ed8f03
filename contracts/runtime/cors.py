"""Cross-origin requests from an exact list of origins (Fetch standard, section 3.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import hdrs, web
from multidict import CIMultiDict

from contracts.runtime.headers import REALTIME_CURSOR
from contracts.runtime.options import RuntimeOptions

_EXPOSED = ", ".join(
    ("Deprecation", "ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", REALTIME_CURSOR, "Retry-After",
     "Sunset", "WWW-Authenticate", "X-Request-ID", "traceparent")
)  # fmt: skip


class Cors:
    """Answers for the configured origins; every other origin gets no CORS header at all."""

    def __init__(self, options: RuntimeOptions) -> None:
        self._origins = frozenset(options.cors_origins)
        self.enabled = bool(self._origins)
        self._max_age = str(options.cors_max_age_s)

    def allow(self, request: web.Request, headers: CIMultiDict[str]) -> None:
        """Mark a response as readable by the page that asked, when its origin is listed."""
        headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin in self._origins:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    def options_handler(
        self, methods: Iterable[str], allowed_headers: Iterable[str]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Handler of OPTIONS on one path: Allow, and the preflight answer for a listed origin."""
        allow = ", ".join(sorted(methods))
        preflight = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: allow,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ", ".join(sorted(allowed_headers)),
            hdrs.ACCESS_CONTROL_MAX_AGE: self._max_age,
        }

        async def options(request: web.Request) -> web.Response:
            headers = {hdrs.ALLOW: allow}
            if hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
                headers[hdrs.VARY] = hdrs.ACCESS_CONTROL_REQUEST_METHOD
                if request.headers.get(hdrs.ORIGIN) in self._origins:
                    headers |= preflight
            return web.Response(status=204, headers=headers)

        return options
