"""The compiled pipeline of one operation: guard, read, validate, call, answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
from aiohttp import hdrs, web

from contracts.runtime.body import BodyReader
from contracts.runtime.call import Call, Handler, Reply
from contracts.runtime.headers import begin_exchange, exchange
from contracts.runtime.parameters import ParameterReader
from contracts.runtime.problem import Fault, InvalidBody, InvalidJson, InvalidParameter, NotAcceptable, Problem
from contracts.runtime.responses import Responder, acceptable
from contracts.runtime.schema import MAX_FAULTS, faults_of
from contracts.runtime.security import NO_SCOPES, Guard


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Operation:
    """One operation, ready to run: nothing of the contract is looked at during a request.

    `produced` are the media types of its successful answers and `streams` says that events are among them, `headers`
    are carried by every answer, `allowed_headers` may be sent from another origin, `cursor` is there when its answers
    carry Realtime-Cursor.
    """

    id: str
    method: str
    route: str
    handler: Handler
    guard: Guard | None
    parameters: ParameterReader
    body: BodyReader | None
    validator: jsonschema_rs.Validator | None
    responder: Responder
    produced: frozenset[str]
    streams: bool
    headers: Mapping[str, str]
    allowed_headers: frozenset[str]
    cursor: Callable[[], str] | None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request. Raises Problem; anything else that escapes is a bug."""
        current = exchange.get() or begin_exchange(request)
        current.operation = self
        principal, scopes = None, NO_SCOPES
        if self.guard is not None:
            principal, scopes = await self.guard.authenticate(request)
        accept = request.headers.get(hdrs.ACCEPT)
        if accept is not None and accept != "*/*" and not acceptable(accept, self.produced):
            raise NotAcceptable(f"This operation answers {', '.join(sorted(self.produced))}")
        faults: list[Fault] = []
        document = self.parameters.read(request, faults)
        body: Any = None
        raw = b""
        if self.body is not None:
            body, raw = await self.body.read(request, document, faults)
        if faults or not (self.validator is None or self.validator.is_valid(document)):
            self._refuse(document, faults)
        if self.streams and request.method == hdrs.METH_HEAD:
            # A stream of events never ends, and has no body to leave out before it begins.
            return web.Response(headers={hdrs.CONTENT_TYPE: EVENT_STREAM})
        call = Call(
            request, self.id, document["path"], document["query"], document["header"], document["cookie"],
            body, raw, principal, scopes, current.request_id,
        )  # fmt: skip
        if self.cursor is not None:
            # Before the handler reads: what commits meanwhile is in the answer, or after this cursor, or both.
            current.cursor = self.cursor()
        answer = await self.handler(call)
        if isinstance(answer, Reply):
            return self.responder.respond(request, answer)
        if self.responder.checks:
            self.responder.check_response(answer)
        return answer

    def check(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        """Compare a refusal with the documented responses, as replies are."""
        if self.responder.checks:
            self.responder.check(status, headers, data)

    def _refuse(self, document: dict[str, Any], faults: list[Fault]) -> None:
        """Raise one problem with every fault of the request."""
        if self.validator is not None:
            known = {fault.pointer for fault in faults}
            faults += [fault for fault in faults_of(self.validator, document) if fault.pointer not in known]
        faults.sort(key=lambda fault: not fault.pointer.startswith("#/body"))
        kind: type[Problem] = InvalidParameter
        if any(fault.rule.startswith("json.") for fault in faults):
            kind = InvalidJson
        elif faults[0].pointer.startswith("#/body"):
            kind = InvalidBody
        raise kind(f"{len(faults)} rule(s) of the contract are broken", errors=faults[:MAX_FAULTS])


EVENT_STREAM = "text/event-stream"
DEFAULT_ALLOWED_HEADERS = frozenset(
    {hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, hdrs.ACCEPT, "X-Request-ID", "traceparent", "tracestate"}
)
