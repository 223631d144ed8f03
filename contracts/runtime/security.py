"""Security requirements compiled from the contract: who is calling, before anything of the body is read."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import hdrs, web

from contracts.runtime.call import SecurityHandler
from contracts.runtime.parameters import read_pairs
from contracts.runtime.problem import AuthenticationInvalid, AuthenticationMissing, Problem, ScopeMissing

# RFC 6750 section 2.1: b64token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
NO_SCOPES: frozenset[str] = frozenset()

Extract = Callable[[web.Request], str | None]
"""Reads a credential: None when absent; raises AuthenticationInvalid when present and malformed."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One security scheme of a contract, bound to its handler."""

    name: str
    challenge: Literal["Bearer", "Basic", "ApiKey"]
    extract: Extract
    handler: SecurityHandler


@dataclass(frozen=True, slots=True)
class Requirement:
    """One scheme and the scopes an operation asks of it."""

    scheme: Scheme
    scopes: tuple[str, ...]
    needed: frozenset[str]


def make_scheme(name: str, declaration: Mapping[str, Any], handler: SecurityHandler) -> Scheme:
    """Bind a declared scheme. oauth2 and openIdConnect credentials are bearer tokens (RFC 6750)."""
    kind = declaration["type"]
    if kind == "apiKey":
        return Scheme(name, "ApiKey", _api_key(declaration["in"], declaration["name"]), handler)
    if kind == "http" and declaration["scheme"].lower() == "basic":
        return Scheme(name, "Basic", _basic, handler)
    return Scheme(name, "Bearer", _bearer, handler)


def _authorization(request: web.Request, scheme: str) -> str | None:
    value = _single(request.headers.getall(hdrs.AUTHORIZATION, ()))
    if value is None:
        return None
    name, _, credential = value.partition(" ")
    return credential.strip(" ") if name.lower() == scheme else None


def _bearer(request: web.Request) -> str | None:
    token = _authorization(request, "bearer")
    if token is not None and _TOKEN.fullmatch(token) is None:
        raise AuthenticationInvalid
    return token


def _basic(request: web.Request) -> str | None:
    """RFC 7617: the decoded `user:password`."""
    encoded = _authorization(request, "basic")
    if encoded is None:
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise AuthenticationInvalid from None
    if ":" not in decoded or "\0" in decoded:
        raise AuthenticationInvalid
    return decoded


def _api_key(location: str, name: str) -> Extract:
    def from_header(request: web.Request) -> str | None:
        return _single(request.headers.getall(name, ()))

    def from_cookie(request: web.Request) -> str | None:
        return request.cookies.get(name)

    def from_query(request: web.Request) -> str | None:
        return _single(read_pairs(request.rel_url.raw_query_string, "query", []).get(name, ()))

    return {"header": from_header, "cookie": from_cookie, "query": from_query}[location]


def _single(values: Sequence[str]) -> str | None:
    if len(values) > 1:
        raise AuthenticationInvalid("The credential occurs more than once")
    if not values:
        return None
    if "\0" in values[0] or not values[0]:
        raise AuthenticationInvalid
    return values[0]


class Guard:
    """The security of one operation: alternatives (OR) of requirements that hold together (AND)."""

    def __init__(self, alternatives: Sequence[Sequence[Requirement]], *, realm: str) -> None:
        self._alternatives = [tuple(alternative) for alternative in alternatives if alternative]
        self._optional = len(self._alternatives) < len(alternatives)
        self._realm = realm.replace("\\", "").replace('"', "")

    async def authenticate(self, request: web.Request) -> tuple[Any, frozenset[str]]:
        """Return the principal and its scopes; raises a 401 or 403 problem with WWW-Authenticate."""
        failure: Problem | None = None
        presented = False
        for alternative in self._alternatives:
            try:
                if len(alternative) == 1:
                    requirement = alternative[0]
                    credential = requirement.scheme.extract(request)
                    if credential is not None:
                        return await _admit(request, requirement, credential)
                    continue
                credentials = [requirement.scheme.extract(request) for requirement in alternative]
                presented = presented or any(credential is not None for credential in credentials)
                if None not in credentials:
                    return await _admit_all(request, alternative, credentials)
            except Problem as problem:
                presented = True
                if problem.status not in (401, 403):
                    raise
                if failure is None or (failure.status == 401 and problem.status == 403):
                    failure = problem
        if failure is None:
            if self._optional and not presented:
                return None, NO_SCOPES
            failure = AuthenticationMissing()
        self._challenge(failure)
        raise failure

    def _challenge(self, problem: Problem) -> None:
        """Set WWW-Authenticate unless the security handler did (RFC 6750 section 3, RFC 9110 section 11.6.1).

        A 403 for another reason than scopes gets none: no other credential would help.
        """
        if hdrs.WWW_AUTHENTICATE in problem.headers or (problem.status == 403 and problem.code != ScopeMissing.code):
            return
        challenges: dict[str, None] = {}
        for requirement in (requirement for alternative in self._alternatives for requirement in alternative):
            kind = requirement.scheme.challenge
            text = f'{kind} realm="{self._realm}"'
            if kind == "Bearer" and problem.status == 403:
                text += f', error="insufficient_scope", scope="{" ".join(requirement.scopes)}"'
            elif kind == "Bearer" and not isinstance(problem, AuthenticationMissing):
                text += ', error="invalid_token"'
            challenges[text] = None
        problem.headers[hdrs.WWW_AUTHENTICATE] = ", ".join(challenges)


async def _admit(request: web.Request, requirement: Requirement, credential: str) -> tuple[Any, frozenset[str]]:
    principal = await requirement.scheme.handler(request, credential, requirement.scopes)
    granted = getattr(principal, "scopes", None)
    if granted is None:
        return principal, requirement.needed
    granted = frozenset(granted)
    if not requirement.needed <= granted:
        raise ScopeMissing(extra={"scopes": list(requirement.scopes)})
    return principal, granted


async def _admit_all(
    request: web.Request, alternative: tuple[Requirement, ...], credentials: Sequence[str | None]
) -> tuple[dict[str, Any], frozenset[str]]:
    principals = {}
    scopes: frozenset[str] = NO_SCOPES
    for requirement, credential in zip(alternative, credentials, strict=True):
        principals[requirement.scheme.name], granted = await _admit(request, requirement, credential or "")
        scopes |= granted
    return principals, scopes
