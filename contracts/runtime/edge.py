"""The one wrapper around every request: identity, refusals, common headers, observation."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from time import perf_counter
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web

from contracts.runtime.cors import Cors
from contracts.runtime.headers import (
    REALTIME_CURSOR,
    REQUEST_ID,
    TRACEPARENT,
    Exchange,
    begin_exchange,
    common_headers,
    exchange,
)
from contracts.runtime.options import RuntimeOptions
from contracts.runtime.problem import (
    MEDIA_TYPE,
    BodyTimeout,
    Internal,
    MalformedRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    Problem,
    TooLarge,
    UnsupportedMediaType,
    render,
)

logger = logging.getLogger(__name__)

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_KNOWN: dict[int, type[Problem]] = {
    400: MalformedRequest,
    404: NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    408: BodyTimeout,
    413: TooLarge,
    415: UnsupportedMediaType,
    500: Internal,
}
_MARK = "X-Content-Type-Options"


class Edge:
    """Middleware and response signal of the root application."""

    def __init__(self, options: RuntimeOptions) -> None:
        self._type_base = options.type_base
        self._observer = options.request_observer
        self._common = common_headers(options)
        self._cors = Cors(options)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Run a handler; whatever goes wrong becomes one problem document."""
        started = perf_counter()
        current = begin_exchange(request)
        raised: web.HTTPException | None = None
        response: web.StreamResponse
        try:
            if "%" in request.raw_path:
                check_target(request.raw_path)
            response = await handler(request)
            # The type of most answers is compared first: an abstract base class makes isinstance slow.
            if type(response) is not web.Response and not isinstance(response, web.StreamResponse):
                raise TypeError("the handler returned no response")
        except Problem as problem:
            response = self._refuse(request, current, problem)
        except web.HTTPException as error:
            if error.status >= 400:
                response = self._refuse(request, current, problem_of(error))
            else:
                response = raised = error
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            logger.exception("unhandled error", extra={"request_id": current.request_id})
            response = self._refuse(request, current, Internal())
        if not response.prepared:
            self._finish(request, current, response)
        if self._observer is not None:
            self._observe(request, current, response.status, perf_counter() - started)
        if raised is not None:
            raise raised
        return response

    async def on_prepare(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add the common headers to a stream that a handler starts itself."""
        if REQUEST_ID in response.headers:
            return
        current = exchange.get()
        if current is not None and isinstance(request, web.Request):
            self._finish(request, current, response)

    def _finish(self, request: web.Request, current: Exchange, response: web.StreamResponse) -> None:
        """Add request identity, CORS and, where the response lacks them, the common headers."""
        headers = response.headers
        headers[REQUEST_ID] = current.request_id
        headers[TRACEPARENT] = current.traceparent
        if current.cursor is not None and response.status < 300:
            headers[REALTIME_CURSOR] = current.cursor
        if _MARK not in headers:
            for name, value in self._common.items():
                headers.setdefault(name, value)
            if current.operation is not None:
                for name, value in current.operation.headers.items():
                    headers.setdefault(name, value)
        if self._cors.enabled:
            self._cors.allow(request, headers)

    def _refuse(self, request: web.Request, current: Exchange, problem: Problem) -> web.StreamResponse:
        if request.writer.output_size > 0:
            # The answer has begun: closing the connection is the only truth left to tell.
            logger.error("error after the response began", extra={"request_id": current.request_id})
            raise ConnectionResetError("the response has begun")
        if problem.status >= 500 and not isinstance(problem, Internal):
            logger.warning("refused", extra={"request_id": current.request_id, "code": problem.code})
        data = render(problem, type_base=self._type_base, request_id=current.request_id)
        response = web.Response(status=problem.status, headers=problem.headers, body=data)
        response.headers[hdrs.CONTENT_TYPE] = MEDIA_TYPE
        if current.operation is not None and not isinstance(problem, Internal):
            try:
                current.operation.check(problem.status, response.headers, data)
            except Internal as breach:
                return self._refuse(request, current, breach)
        return response

    def _observe(self, request: web.Request, current: Exchange, status: int, seconds: float) -> None:
        operation = current.operation
        if operation is not None:
            route, operation_id = operation.route, operation.id
        else:
            resource = request.match_info.route.resource
            route, operation_id = (resource.canonical if resource is not None else ""), ""
        if self._observer is not None:
            self._observer(request.method, route, operation_id, status, seconds)


def check_target(target: str) -> None:
    """Refuse a request target with a bad percent-escape, or a path that is not UTF-8 or holds NUL."""
    path = target.partition("?")[0]
    if _BAD_ESCAPE.search(path):
        raise MalformedRequest("The path is not percent-encoded correctly")
    decoded = unquote_to_bytes(path)
    if b"\0" in decoded:
        raise MalformedRequest("The path contains a NUL character")
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("The path is not UTF-8") from None


def problem_of(error: web.HTTPException) -> Problem:
    """Tell an aiohttp exception as a problem; its headers survive, its default text does not."""
    headers = {name: value for name, value in error.headers.items() if name != hdrs.CONTENT_TYPE}
    detail = error.text if error.text != f"{error.status}: {error.reason}" else None
    known = _KNOWN.get(error.status)
    if known is Internal:
        return Internal(headers=headers)
    if known is not None:
        return known(detail, headers=headers)
    return Problem(detail, status=error.status, code=f"http.{error.status}", title=error.reason, headers=headers)
