"""Serving: the runner whose protocol errors, too, are problem documents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from contracts.runtime.edge import problem_of
from contracts.runtime.headers import REQUEST_ID, new_identifier
from contracts.runtime.problem import MEDIA_TYPE, Internal, MalformedRequest, Problem, render

logger = logging.getLogger(__name__)


class _Protocol(RequestHandler):
    """Answers what never reaches the middleware: a bad request line, a header too long, an unknown expectation."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Tell a protocol error as a problem and close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        if status == 500:
            logger.error("unhandled protocol error", exc_info=exc)
            return self._refuse(Internal())
        return self._refuse(MalformedRequest("The request is not well-formed HTTP/1.1", status=status))

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send a response; an aiohttp error that no middleware saw is told as a problem."""
        if type(resp) is not web.Response and isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = self._refuse(problem_of(resp))
        return super().finish_response(request, resp, start_time)

    def _refuse(self, problem: Problem) -> web.Response:
        identifier = new_identifier()
        response = web.Response(
            status=problem.status,
            body=render(problem, type_base=cast(_Server, self._manager).type_base, request_id=identifier),
            headers={hdrs.CONTENT_TYPE: MEDIA_TYPE, REQUEST_ID: identifier, hdrs.CACHE_CONTROL: "no-store"},
        )
        response.force_close()
        return response


class _Server(web.Server):
    """Makes our protocol for every connection."""

    def __init__(self, server: web.Server, *, type_base: str) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=asyncio.get_running_loop(),
            **server._kwargs,
        )
        self.type_base = type_base

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class ApiRunner(web.AppRunner):
    """`aiohttp.web.AppRunner` for an application of `create_api`; takes the same arguments and `type_base`."""

    __slots__ = ("_type_base",)

    def __init__(self, app: web.Application, *, type_base: str = "urn:problem:", **arguments: Any) -> None:
        super().__init__(app, **arguments)
        self._type_base = type_base

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), type_base=self._type_base)
