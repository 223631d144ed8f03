"""Problem details (RFC 9457): the one shape of every refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule of the contract.

    `pointer` is a JSON pointer in URI-fragment form whose first segment is the place: `#/body/amount`,
    `#/query/limit`, `#/header/Idempotency-Key`, `#/path/id`, `#/cookie/session`. `message` never contains the value.
    """

    pointer: str
    rule: str
    message: str


class Problem(Exception):
    """A refusal that becomes an application/problem+json response.

    Subclasses set `status`, `code` and `title` on the class; keyword arguments override them for one instance.
    `extra` members are added to the document as they are.
    """

    status: int = 500
    code: str = "internal"
    title: str = "Internal error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        status: int | None = None,
        code: str | None = None,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Fault] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or title or self.title)
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        if title is not None:
            self.title = title
        self.detail = detail
        self.headers: dict[str, str] = dict(headers or {})
        self.errors: list[Fault] | None = list(errors) if errors is not None else None
        self.extra: dict[str, Any] = dict(extra or {})


class InvalidJson(Problem):
    """The body is not the JSON this service reads (RFC 8259, strict)."""

    status, code, title = 400, "contract.json", "The body is not valid JSON"


class InvalidBody(Problem):
    """The body is readable and breaks the contract."""

    status, code, title = 400, "contract.body", "The request does not match the contract"


class InvalidParameter(Problem):
    """A path, query, header or cookie parameter breaks the contract."""

    status, code, title = 400, "contract.parameter", "The request does not match the contract"


class MalformedRequest(Problem):
    """The request is not well-formed HTTP or its target is not a well-formed URI."""

    status, code, title = 400, "contract.request", "The request is malformed"


class NotAcceptable(Problem):
    """Every media type the operation answers with is one the client refuses."""

    status, code, title = 406, "contract.not_acceptable", "No acceptable media type"


class UnsupportedMediaType(Problem):
    """The body's media type is not one the operation reads; `Accept` lists those."""

    status, code, title = 415, "contract.media_type", "The media type of the body is not supported"


class TooLarge(Problem):
    """The body is larger than the operation accepts."""

    status, code, title = 413, "contract.too_large", "The body is too large"


class BodyTimeout(Problem):
    """The body did not arrive in time."""

    status, code, title = 408, "contract.timeout", "The body did not arrive in time"


class NotFound(Problem):
    """No resource of any contract matches the path."""

    status, code, title = 404, "contract.not_found", "Not found"


class MethodNotAllowed(Problem):
    """The resource exists and has no such method; `Allow` lists those it has."""

    status, code, title = 405, "contract.method", "Method not allowed"


class AuthenticationMissing(Problem):
    """No credentials were sent."""

    status, code, title = 401, "auth.missing", "Authentication is required"


class AuthenticationInvalid(Problem):
    """Credentials were sent and are not valid."""

    status, code, title = 401, "auth.invalid", "The credentials are not valid"


class ScopeMissing(Problem):
    """The caller is known and lacks a scope the operation requires."""

    status, code, title = 403, "auth.scope", "The credentials lack a required scope"


class Internal(Problem):
    """A bug: the client learns the request id only."""

    status, code, title = 500, "internal", "Internal error"


def render(problem: Problem, *, type_base: str, request_id: str) -> bytes:
    """Encode a problem as RFC 9457 JSON; `instance` names the request."""
    document: dict[str, Any] = {
        "type": f"{type_base}{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "instance": f"urn:request:{request_id}",
        "code": problem.code,
    }
    if problem.detail is not None:
        document["detail"] = problem.detail
    if problem.errors is not None:
        document["errors"] = [
            {"pointer": fault.pointer, "rule": fault.rule, "message": fault.message} for fault in problem.errors
        ]
    for name, value in problem.extra.items():
        document.setdefault(name, value)
    # An extra member that is not JSON becomes text: a refusal must not fail because of what it tells.
    return orjson.dumps(document, default=str)
