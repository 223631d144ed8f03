"""Answers: JSON encoding, prepared headers, gzip, and the check against the documented responses."""

from __future__ import annotations

import gzip
import logging
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson
from aiohttp import hdrs, web
from multidict import CIMultiDict

from contracts.runtime.body import is_json
from contracts.runtime.call import Reply
from contracts.runtime.headers import REALTIME_CURSOR, REQUEST_ID, TRACEPARENT
from contracts.runtime.options import RuntimeOptions
from contracts.runtime.problem import Internal
from contracts.runtime.schema import SchemaSet, faults_of

logger = logging.getLogger(__name__)

_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?!;\s*q=0(?:\.0{0,3})?\s*(?:,|$))(?:;|,|$)", re.IGNORECASE)
_GZIP_LEVEL = 5
# Every answer gets these when it leaves, after it was looked at.
_ADDED_LATER = frozenset({REQUEST_ID.lower(), TRACEPARENT, REALTIME_CURSOR.lower()})
_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")


def accepts_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip with a weight above zero."""
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING)
    return accepted is not None and _GZIP.search(accepted) is not None


@lru_cache(maxsize=512)
def acceptable(accept: str, produced: frozenset[str]) -> bool:
    """Whether an Accept header takes one of the media types."""
    # An operation without content has nothing to refuse.
    return not produced or preferred(accept, tuple(produced)) is not None


@lru_cache(maxsize=512)
def preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    """Which media type an Accept header likes best, the first of equals; None when it takes none of them.

    Source: RFC 9110 section 12.5.1.
    """
    weights: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if (match := _WEIGHT.fullmatch(parameter)) is not None:
                weight = float(match[1])
        if "/" in name:
            weights[name] = max(weight, weights.get(name, 0.0))
    if not weights:  # a header that names nothing says nothing
        return offered[0]
    best = max(offered, key=lambda media_type: _weight(media_type, weights))
    return best if _weight(best, weights) > 0 else None


def _weight(media_type: str, weights: Mapping[str, float]) -> float:
    candidates = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((weights[candidate] for candidate in candidates if candidate in weights), 0.0)


def compress(data: bytes) -> bytes:
    """gzip with no timestamp: equal bytes stay equal."""
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)


@dataclass(frozen=True, slots=True)
class DocumentedResponse:
    """One documented response of an operation."""

    validators: Mapping[str, jsonschema_rs.Validator | None]
    required_headers: tuple[str, ...]


class Responder:
    """Turns the replies of one operation into responses."""

    def __init__(
        self, operation_id: str, options: RuntimeOptions, *, headers: Mapping[str, str],
        documented: Mapping[str, DocumentedResponse],
    ) -> None:  # fmt: skip
        self._operation_id = operation_id
        self._options = options
        self._documented = documented
        self._json_headers = CIMultiDict({**headers, hdrs.CONTENT_TYPE: "application/json"})
        self._empty_headers = CIMultiDict(headers)
        self._gzip_min = options.gzip_min_bytes
        self.checks = options.response_validation != "off"

    def respond(self, request: web.Request, reply: Reply) -> web.Response:
        """Encode a reply."""
        if reply.body is None:
            response = web.Response(status=reply.status, headers=self._empty_headers)
            data = b""
        else:
            data = orjson.dumps(reply.body)
            response = web.Response(status=reply.status, headers=self._json_headers, body=data)
        if reply.headers:
            for name, value in reply.headers.items():
                response.headers[name] = value
        if self.checks:
            self.check(reply.status, response.headers, data)
        if len(data) >= self._gzip_min:
            response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
            if accepts_gzip(request):
                response.body = compress(data)
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return response

    def check_response(self, response: web.StreamResponse) -> None:
        """Compare a JSON response that a handler made itself; streams and other media types are its own affair."""
        if isinstance(response, web.Response) and isinstance(response.body, bytes) and is_json(response.content_type):
            self.check(response.status, response.headers, response.body)

    def check(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        """Compare an answer with the contract; in strict mode a violation raises Internal."""
        options = self._options
        strict = options.response_validation == "strict"
        if not strict and random.random() >= options.response_sample_rate:  # noqa: S311 - a sample, not a secret
            return
        violations = self._violations(status, headers, data)
        if not violations:
            return
        for violation in violations:
            logger.error("response breaks the contract", extra={"violation": violation})
        if options.response_violations is not None:
            options.response_violations.extend(violations)
        if strict:
            raise Internal

    def _violations(self, status: int, headers: Mapping[str, str], data: bytes) -> list[str]:
        subject = f"{self._operation_id} {status}"
        documented = (
            self._documented.get(str(status))
            or self._documented.get(f"{status // 100}XX")
            or self._documented.get("default")
        )
        if documented is None:
            return [f"{subject}: the status is not documented"]
        found = [
            f"{subject}: the header {name} is required" for name in documented.required_headers if name not in headers
        ]
        if not data:
            if documented.validators:
                found.append(f"{subject}: a body is documented and none was sent")
            return found
        media_type = headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
        if media_type not in documented.validators:
            return [*found, f"{subject}: the media type {media_type} is not documented"]
        validator = documented.validators[media_type]
        if validator is not None and is_json(media_type):
            faults = faults_of(validator, orjson.loads(data))
            found.extend(f"{subject}: {fault.pointer} {fault.rule}: {fault.message}" for fault in faults)
        return found


def document_responses(
    responses: Mapping[str, Any], schemas: SchemaSet, *, resolve: Callable[[Any], Any]
) -> dict[str, DocumentedResponse]:
    """Compile the responses object of one operation."""
    documented = {}
    for status, node in responses.items():
        response = resolve(node)
        validators = {
            media_type.lower(): schemas.validator(media["schema"]) if "schema" in media else None
            for media_type, media in response.get("content", {}).items()
        }
        required = tuple(
            name
            for name, header in response.get("headers", {}).items()
            if resolve(header).get("required") and name.lower() not in _ADDED_LATER
        )
        documented[status if status == "default" else status.upper()] = DocumentedResponse(validators, required)
    return documented
