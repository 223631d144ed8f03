"""Request bodies: media type and size are checked before a byte is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from contracts.runtime.forms import FormFault, FormReader
from contracts.runtime.json_body import JsonFaults, parse
from contracts.runtime.problem import BodyTimeout, Fault, MalformedRequest, Problem, TooLarge, UnsupportedMediaType

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FORMS = (URLENCODED, MULTIPART)


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON (RFC 6839: `+json`)."""
    return media_type == JSON or media_type.endswith("+json")


class BodyReader:
    """How the body of one operation is read."""

    def __init__(
        self, content: Mapping[str, Any], *, required: bool, raw: bool, limit: int, timeout_s: float, depth: int,
        resolve: Callable[[Any], Any],
    ) -> None:  # fmt: skip
        self._accepted = frozenset(name.lower() for name in content)
        self._accept = ", ".join(sorted(content))
        self._required = required
        self._raw = raw
        self._limit = limit
        self._timeout_s = timeout_s
        self._depth = depth
        self._form: FormReader | None = None
        if not raw and self._accepted & set(FORMS):
            media = next(iter(content.values()))
            self._form = FormReader(resolve(media["schema"]), media, resolve=resolve)

    async def read(self, request: web.Request, document: dict[str, Any], faults: list[Fault]) -> tuple[Any, bytes]:
        """Return (body, raw bytes) and put what is to be validated into `document["body"]`.

        Raises 413, 415 and, for a malformed transfer, 400; faults of the content are appended.
        """
        if not request.body_exists:
            if self._required:
                faults.append(Fault("#/body", "required", "is required"))
            return None, b""
        media_type = self._media_type(request)
        stream = request.content
        if stream.is_eof() and stream.exception() is None:
            # It came along with the head of the request.
            data = stream.read_nowait()
            if len(data) > self._limit:
                raise TooLarge(f"At most {self._limit} bytes are accepted")
        else:
            data = await read_bytes(request, self._limit, timeout_s=self._timeout_s)
        if self._raw:
            return None, data
        if not data and not self._required:
            return None, b""
        try:
            if self._form is None:
                body = document["body"] = parse(data, depth=self._depth)
            elif media_type == URLENCODED:
                body, document["body"] = self._form.urlencoded(data, faults)
            else:
                header = request.headers[hdrs.CONTENT_TYPE]
                body, document["body"] = self._form.multipart(data, header, self._depth, faults)
        except JsonFaults as error:
            faults.extend(error.faults)
            return None, b""
        except FormFault as error:
            faults.append(error.fault)
            return None, b""
        return body, b""

    def _media_type(self, request: web.Request) -> str:
        headers = request.headers
        given = headers.getall(hdrs.CONTENT_TYPE, ())
        media_type = given[0] if len(given) == 1 else ""
        if media_type not in self._accepted:
            media_type = media_type.partition(";")[0].strip().lower()
        if media_type not in self._accepted:
            raise UnsupportedMediaType(
                f"Send {self._accept}", headers={"Accept": self._accept, "Accept-Post": self._accept}
            )
        if hdrs.CONTENT_ENCODING in headers and headers[hdrs.CONTENT_ENCODING].lower() != "identity":
            # RFC 9110 section 12.5.3: a 415 for a coding names the codings that are read.
            raise UnsupportedMediaType(
                "Send the body without Content-Encoding", headers={"Accept-Encoding": "identity"}
            )
        return media_type


async def read_bytes(request: web.Request, limit: int, *, timeout_s: float) -> bytes:
    """Read a body of at most `limit` bytes.

    Raises TooLarge as soon as the excess is known, BodyTimeout when the body does not arrive, MalformedRequest when its
    transfer coding is broken.
    """
    length = request.content_length
    if length is not None and length > limit:
        raise TooLarge(f"At most {limit} bytes are accepted")
    if hdrs.EXPECT in request.headers:
        await _continue(request)
    chunks = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while data := await request.content.readany():
                chunks += data
                if len(chunks) > limit:
                    raise TooLarge(f"At most {limit} bytes are accepted")
    except TimeoutError:
        raise BodyTimeout from None
    except (HttpProcessingError, web.RequestPayloadError):
        raise MalformedRequest("The transfer of the body is malformed") from None
    return bytes(chunks)


async def defer_expectation(request: web.Request) -> None:
    """Expect handler of the routes: the client is told to go on when the body is wanted, not before."""


async def _continue(request: web.Request) -> None:
    """Answer `Expect: 100-continue`, now that identity, size and media type are fine (RFC 9110 section 10.1.1)."""
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        raise Problem(status=417, code="contract.expectation", title="The expectation cannot be met")
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim answer is not part of the final one.
        request.writer.output_size = 0
