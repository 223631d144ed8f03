"""The one outbound HTTP client: every adapter talks through it.

It answers one question besides the answer itself: did anything happen? A read that fails changed
nothing and is repeated; a write is repeated only when it certainly never left this machine.

    never sent (refused, no route, DNS, TLS)  → retried → ProviderUnavailable
    GET:  time-out, 5xx, unreadable           → retried → ProviderUnavailable
    POST: time-out, 5xx, unreadable           → ProviderOutcomeUnknown, at once
    429                                       → ProviderUnavailable with retry_after_s, at once
    other 4xx                                 → the answer, for the adapter to explain
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, NoReturn

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
)

from integrations.breaker import CircuitBreaker
from integrations.ports import ProviderOutcomeUnknown, ProviderUnavailable

logger = logging.getLogger(__name__)

REDACTED: Final = "[redacted]"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How long and how much. `total_timeout_s` is per attempt; back-off is jittered and doubles from `backoff_s`.

    With these defaults no call takes longer than 25 seconds.
    """

    connect_timeout_s: float = 3.0
    total_timeout_s: float = 8.0
    max_response_bytes: int = 1_048_576
    attempts: int = 3
    backoff_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """A usable answer: 2xx with JSON, or 4xx with whatever came. `body` is None when it was not JSON."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One attempt, fit to be stored: no header at all, and only allow-listed fields keep their value."""

    provider: str
    operation: str
    method: str
    path: str
    attempt: int
    status: int | None
    outcome: str
    duration_ms: int
    request: Any
    response: Any


Recorder = Callable[[CallRecord], None]


def log_call(record: CallRecord) -> None:
    """Write a call to the log, without its documents."""
    fields = ("provider", "operation", "method", "path", "attempt", "status", "outcome", "duration_ms")
    logger.info("provider.call", extra={field: getattr(record, field) for field in fields})


def redact(document: Any, visible: frozenset[str]) -> Any:
    """Return a copy in which every scalar is hidden unless the key it stands under is in `visible`."""
    if isinstance(document, Mapping):
        return {
            key: value if key in visible and not isinstance(value, Mapping | list) else redact(value, visible)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [redact(item, visible) for item in document]
    return None if document is None else REDACTED


class _NoAnswer(Exception):
    """An attempt that brought nothing usable; `sent` tells whether the provider may have acted on it."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    operation: str
    method: Literal["GET", "POST"]
    path: str
    params: Mapping[str, str] | None
    body: Mapping[str, Any] | None


class HttpClient:
    """One provider's HTTP: JSON in, JSON out, no redirects, no cookies.

    `headers` go with every request and nowhere else. `visible` names the fields whose values may be
    recorded. Close it when the process ends.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        visible: frozenset[str],
        limits: HttpLimits,
        breaker: CircuitBreaker,
        record: Recorder,
    ) -> None:
        self.provider = provider
        self._base_url = base_url.rstrip("/")
        self._headers = {**headers, "Accept": "application/json", "User-Agent": "matchday"}
        self._visible = visible
        self._limits = limits
        self._breaker = breaker
        self._record = record
        self._session: ClientSession | None = None

    async def get(self, operation: str, path: str, *, params: Mapping[str, str] | None = None) -> Answer:
        """Read. Raises ProviderUnavailable."""
        return await self._call(_Call(operation=operation, method="GET", path=path, params=params, body=None))

    async def post(self, operation: str, path: str, *, body: Mapping[str, Any]) -> Answer:
        """Write. Raises ProviderUnavailable when nothing was sent, else ProviderOutcomeUnknown."""
        return await self._call(_Call(operation=operation, method="POST", path=path, params=None, body=body))

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, call: _Call) -> Answer:
        with self._breaker.guard(self.provider, call.operation):
            attempt = 1
            while True:
                try:
                    return await self._attempt(call, attempt)
                except _NoAnswer as fault:
                    if call.method != "GET" and fault.sent:
                        raise ProviderOutcomeUnknown(self.provider, call.operation, fault.reason) from fault
                    if attempt >= self._limits.attempts:
                        raise ProviderUnavailable(self.provider, call.operation, fault.reason) from fault
                longest_s = self._limits.backoff_s * 2 ** (attempt - 1)
                await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - jitter, not a secret
                attempt += 1

    async def _attempt(self, call: _Call, attempt: int) -> Answer:
        started = time.perf_counter()
        status: int | None = None
        body: Any = None
        outcome = "cancelled"
        try:
            status, retry_after_s, body = await self._exchange(call)
            outcome = _judge(status, body)
            if outcome == "rate_limited":
                raise ProviderUnavailable(self.provider, call.operation, "rate limited", retry_after_s=retry_after_s)
            if outcome not in ("ok", "refused"):
                raise _NoAnswer(f"HTTP {status} {outcome}", sent=True)
            return Answer(status, body)
        except _NoAnswer as fault:
            outcome = fault.reason
            raise
        finally:
            record = CallRecord(
                provider=self.provider,
                operation=call.operation,
                method=call.method,
                path=call.path,
                attempt=attempt,
                status=status,
                outcome=outcome,
                duration_ms=round((time.perf_counter() - started) * 1000),
                request=redact(call.body if call.body is not None else call.params, self._visible),
                response=redact(body, self._visible),
            )
            self._record(record)

    async def _exchange(self, call: _Call) -> tuple[int, int | None, Any]:
        if self._session is None:
            timeout = ClientTimeout(total=self._limits.total_timeout_s, connect=self._limits.connect_timeout_s)
            self._session = ClientSession(timeout=timeout, headers=self._headers, cookie_jar=DummyCookieJar())
        try:
            async with self._session.request(
                call.method,
                self._base_url + call.path,
                params=call.params,
                data=None if call.body is None else json.dumps(call.body).encode(),
                headers=None if call.body is None else {"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                raw = await self._read(response)
                return response.status, _retry_after(response), _parse(response.content_type, raw)
        except (ClientConnectorError, ConnectionTimeoutError) as fault:
            raise _NoAnswer("not connected", sent=False) from fault
        except TimeoutError as fault:
            raise _NoAnswer("timed out", sent=True) from fault
        except ClientError as fault:
            raise _NoAnswer("connection lost", sent=True) from fault

    async def _read(self, response: ClientResponse) -> bytes:
        raw = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            raw += chunk
            if len(raw) > self._limits.max_response_bytes:
                response.close()
                raise _NoAnswer("answer too large", sent=True)
        return bytes(raw)


def _judge(status: int, body: Any) -> str:
    if status == 429:
        return "rate_limited"
    if 200 <= status < 300:
        return "ok" if body is not None else "unreadable"
    # 408 says that the request was not read to its end in time: nobody knows what became of it.
    return "refused" if 400 <= status < 500 and status != 408 else "failed"


def _parse(content_type: str, raw: bytes) -> Any:
    """Return the JSON document, or None for anything else: error pages of proxies are HTML."""
    if content_type != "application/json":
        return None
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _retry_after(response: ClientResponse) -> int | None:
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
