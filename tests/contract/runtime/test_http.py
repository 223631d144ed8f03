"""What every request meets: identity, methods, origins, sizes, codings, and problem documents for everything."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from typing import Any

import pytest
from aiohttp import web

from contracts.runtime import (
    Problem,
    Reply,
    RuntimeOptions,
    current_request_id,
    current_trace_id,
)
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    BASE,
    Recorder,
    body_operation,
    closed,
    document,
    json_content,
    operation,
    runtime_app,
)

URL = f"{BASE}/things"
NAME = closed({"name": {"type": "string", "maxLength": 200_000}})
GET = document({"/things": {"get": operation()}})
POST = document({"/things": {"post": body_operation(NAME)}})
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def exchange(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Send bytes as they are; returns head and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = re.search(rb"content-length: (\d+)", head.lower())
    body = await asyncio.wait_for(reader.readexactly(int(length[1])), 5) if length else b""
    writer.close()
    await writer.wait_closed()
    return head, body


async def test_request_id_is_taken_or_made(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(GET, recorder))
    answer = await client.get(URL, headers={"X-Request-ID": "a.B-9_"})
    assert answer.headers["X-Request-ID"] == recorder.last.request_id == "a.B-9_"
    for wrong in ("", "a b", "x" * 65, "é"):
        answer = await client.get(URL, headers={"X-Request-ID": wrong})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    problem = await (await client.get("/nowhere", headers={"X-Request-ID": "mine"})).json()
    assert problem["instance"] == "urn:request:mine"


async def test_trace_context_goes_on(connect: Connect) -> None:
    seen = []

    async def handler(call: Any) -> Reply:
        seen.append((current_request_id(), current_trace_id()))
        return Reply(200, {})

    client = await connect(runtime_app(GET, handler))
    answer = await client.get(URL, headers={"traceparent": TRACE})
    version, trace, span, flags = answer.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span != "b7ad6b7169203331"
    assert seen == [(answer.headers["X-Request-ID"], trace)]
    zero = f"00-{'0' * 32}-b7ad6b7169203331-01"
    for wrong in (zero, "ff" + TRACE[2:], TRACE.upper(), "x"):
        given = (await client.get(URL, headers={"traceparent": wrong})).headers["traceparent"]
        assert re.fullmatch("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00", given)
    assert current_request_id() == current_trace_id() == ""


async def test_security_headers(connect: Connect) -> None:
    client = await connect(runtime_app(GET, options=RuntimeOptions(hsts=True)))
    for path in (URL, "/nowhere", f"{BASE}/openapi.json"):
        headers = (await client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Strict-Transport-Security"].startswith("max-age=")
        assert "aiohttp" not in headers["Server"]
    assert (await client.get(URL)).headers["Cache-Control"] == "no-store"
    client = await connect(runtime_app(GET))
    assert "Strict-Transport-Security" not in (await client.get(URL)).headers


@pytest.mark.parametrize(
    "target",
    [b"/t/\xff", b"/t/%41\xff", b"/t/\xe2\x82\xb9", b"/things?q=\xff", b"/things?q=%ff", b"/things?%ff=1", b"/t/%ff"],
)
async def test_targets_that_are_not_ascii_or_utf8(connect: Connect, target: bytes) -> None:
    client = await connect(runtime_app(GET))
    head, body = await exchange(client.port, b"GET " + BASE.encode() + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.split()[1] == b"400"
    assert json.loads(body)["status"] == 400


async def test_headers_that_are_not_utf8(connect: Connect) -> None:
    client = await connect(runtime_app(GET))
    for name in (b"X-Request-ID", b"traceparent", b"Origin", b"Accept-Encoding", b"Cookie", b"If-None-Match"):
        request = f"GET {URL} HTTP/1.1\r\nHost: a\r\n".encode() + name + b": \xff\r\n\r\n"
        head, _body = await exchange(client.port, request)
        assert head.startswith(b"HTTP/1.1 200")


async def test_unknown_methods(connect: Connect) -> None:
    client = await connect(runtime_app(GET))
    for method in ("TRACE", "PUT", "PROPFIND"):
        answer = await client.request(method, URL)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD,OPTIONS")
        assert (await answer.json())["code"] == "contract.method"


async def test_preflight_and_origins(connect: Connect) -> None:
    header = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 9}}
    content = document({"/things": {"post": body_operation(NAME, parameters=[header]), "get": operation("read")}})
    options = RuntimeOptions(cors_origins=("https://app.example",), cors_max_age_s=7)
    client = await connect(runtime_app(content, options=options))
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    headers = (await client.options(URL, headers=asked)).headers
    assert headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS, POST"
    assert {"Authorization", "Content-Type", "Idempotency-Key"} <= set(
        headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert headers["Access-Control-Max-Age"] == "7"
    for path in (URL, "/nowhere"):
        headers = (await client.get(path, headers={"Origin": "https://app.example"})).headers
        assert headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Retry-After" in headers["Access-Control-Expose-Headers"]
        assert "Origin" in headers.getall("Vary")
    for origin in ("https://app.example.evil.example", "https://APP.example", "null", "http://app.example"):
        for headers in (
            (await client.get(URL, headers={"Origin": origin})).headers,
            (await client.options(URL, headers=asked | {"Origin": origin})).headers,
        ):
            assert not [name for name in headers if name.startswith("Access-Control")]
            assert "Origin" in headers.getall("Vary")


async def test_deprecation(connect: Connect) -> None:
    members = {"deprecated": True, "x-deprecated-at": "2026-01-01", "x-sunset": "2026-12-31"}
    client = await connect(runtime_app(document({"/things": {"get": operation(**members)}})))
    for answer in (await client.get(URL), await client.get(f"{URL}?unknown=1")):
        assert answer.headers["Deprecation"] == "@1767225600"
        assert answer.headers["Sunset"] == "Thu, 31 Dec 2026 00:00:00 GMT"


async def test_gzip_above_the_threshold(connect: Connect) -> None:
    big, small = Recorder(Reply(200, {"text": "x" * 5000})), Recorder()
    client = await connect(runtime_app(GET, big, options=RuntimeOptions(gzip_min_bytes=1000)))

    async def coding(accepted: str) -> str | None:
        answer = await client.get(URL, headers={"Accept-Encoding": accepted})
        assert "Accept-Encoding" in answer.headers["Vary"]
        assert (await answer.json())["text"] == "x" * 5000
        value: str | None = answer.headers.get("Content-Encoding")
        return value

    for accepted in ("gzip", "br, gzip;q=0.5", "deflate,GZIP"):
        assert await coding(accepted) == "gzip"
    for refused in ("", "br", "gzip;q=0", "gzip; q=0.000, br", "xgzip"):
        assert await coding(refused) is None
    client = await connect(runtime_app(GET, small))
    assert "Content-Encoding" not in (await client.get(URL, headers={"Accept-Encoding": "gzip"})).headers


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("*/*", 200),
        ("application/*;q=0.1", 200),
        ("text/html, */*;q=0.1", 200),
        ("nonsense", 200),
        ("text/html", 406),
        ("application/json;q=0", 406),
        ("application/json;q=0, */*", 406),
        ("text/*", 406),
    ],
)
async def test_negotiation(connect: Connect, accept: str, status: int) -> None:
    client = await connect(runtime_app(GET))
    answer = await client.get(URL, headers={"Accept": accept})
    assert answer.status == status
    if status == 406:
        assert (await answer.json())["code"] == "contract.not_acceptable"


async def test_too_large_by_announcement(connect: Connect) -> None:
    content = document({"/things": {"post": body_operation(NAME, **{"x-max-body-bytes": 100})}})
    client = await connect(runtime_app(content))
    head, body = await exchange(
        client.port,
        f"POST {URL} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 101\r\n\r\n".encode(),
    )
    assert head.startswith(b"HTTP/1.1 413")
    assert json.loads(body)["code"] == "contract.too_large"
    assert (
        await client.post(URL, data=b'{"name": "' + b"x" * 88 + b'"}', headers={"Content-Type": "application/json"})
    ).status == 200


async def test_too_large_while_it_streams(connect: Connect) -> None:
    content = document({"/things": {"post": body_operation(NAME, **{"x-max-body-bytes": 100})}})
    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    head, body = await exchange(
        client.port,
        f"POST {URL} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + b"32\r\n" + b" " * 50 + b"\r\n34\r\n" + b" " * 52 + b"\r\n",
    )  # fmt: skip
    assert head.startswith(b"HTTP/1.1 413")
    assert json.loads(body)["code"] == "contract.too_large"
    assert recorder.calls == []


async def test_chunked_body_is_read(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(POST, recorder))

    async def chunks() -> Any:
        for part in (b'{"na', b'me": "', b'a"}'):
            yield part

    assert (await client.post(URL, data=chunks(), headers={"Content-Type": "application/json"})).status == 200
    assert recorder.last.body == {"name": "a"}


async def test_malformed_chunks(connect: Connect) -> None:
    client = await connect(runtime_app(POST))
    head = f"POST {URL} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    chunks = b'5\r\n{"nam\r\nZZ\r\n'
    at_once, body = await exchange(client.port, head.encode() + b"\r\n" + chunks)
    assert (at_once.split()[1], json.loads(body)["code"]) == (b"400", "contract.request")


@pytest.mark.parametrize("sent", [b"5\r\n{", b'5\r\n{"nam\r\nZZ\r\n'])
async def test_a_body_that_does_not_come_is_given_up(connect: Connect, sent: bytes) -> None:
    client = await connect(runtime_app(POST, options=RuntimeOptions(body_timeout_s=0.05)))
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        f"POST {URL} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert b"100" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.write(sent)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in head
    writer.close()
    await writer.wait_closed()


async def test_content_codings_of_requests_are_refused(connect: Connect) -> None:
    client = await connect(runtime_app(POST))
    for coding, data in (("gzip", gzip.compress(b"{}")), ("unknown", b"{}")):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = await client.post(URL, data=data, headers=headers)
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")


async def test_continue_is_said_when_the_body_is_wanted(connect: Connect) -> None:
    content = document({"/things": {"post": body_operation(NAME, **{"x-max-body-bytes": 100})}})
    client = await connect(runtime_app(content))

    def head_of(length: int, expectation: str) -> bytes:
        return (
            f"POST {URL} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
            f"Expect: {expectation}\r\n\r\n"
        ).encode()

    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head_of(2, "100-Continue"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    elsewhere = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"
    for request, status in ((head_of(101, "100-continue"), b"413"), (head_of(2, "tea"), b"417"), (elsewhere, b"417")):
        head, body = await exchange(client.port, request)
        assert head.startswith(b"HTTP/1.1 " + status)
        assert json.loads(body)["status"] == int(status)


@pytest.mark.parametrize("target", [f"{URL}/%zz", f"{URL}/%", f"{URL}/%00", f"{URL}/%ff", f"{URL}/%ED%A0%80"])
async def test_malformed_paths(connect: Connect, target: str) -> None:
    client = await connect(runtime_app(GET))
    head, body = await exchange(client.port, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["code"] == "contract.request"


@pytest.mark.parametrize(
    "request_",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_problem_too(
    connect: Connect, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(runtime_app(GET))
    head, body = await exchange(client.port, request_)
    assert head.startswith(b"HTTP/1.")
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "contract.request")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_bugs_tell_the_request_id_only(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    observed: list[tuple[Any, ...]] = []
    options = RuntimeOptions(request_observer=lambda *facts: observed.append(facts), type_base="https://p.example/")
    client = await connect(runtime_app(GET, Recorder(ValueError("secret")), options=options))
    answer = await client.get(URL, headers={"X-Request-ID": "mine"})
    assert await answer.json() == {
        "type": "https://p.example/internal", "title": "Internal error", "status": 500,
        "instance": "urn:request:mine", "code": "internal",
    }  # fmt: skip
    (record,) = [record for record in caplog.records if record.exc_info]
    assert (record.message, record.__dict__["request_id"]) == ("unhandled error", "mine")
    assert [facts[:4] for facts in observed] == [("GET", URL, "sample", 500)]


@pytest.mark.parametrize("answer", [None, {"a": 1}, Reply(200, {"amount": object()})])
async def test_answers_that_are_none(connect: Connect, answer: Any) -> None:
    async def handler(call: Any) -> Any:
        return answer

    client = await connect(runtime_app(GET, handler))
    assert (await client.get(URL)).status == 500


async def test_observer_sees_routes_and_not_paths(connect: Connect) -> None:
    observed: list[tuple[Any, ...]] = []
    identifier = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 9}}
    content = document({"/things/{id}": {"get": operation(parameters=[identifier])}})
    options = RuntimeOptions(request_observer=lambda *facts: observed.append(facts))

    async def health(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    client = await connect(runtime_app(content, options=options, extra_routes=[web.get("/health/{part}", health)]))
    for path in (f"{URL}/7", "/health/live", "/nowhere"):
        await client.get(path)
    assert [facts[:4] for facts in observed] == [
        ("GET", f"{URL}/{{id}}", "sample", 200), ("GET", "/health/{part}", "", 200), ("GET", "", "", 404),
    ]  # fmt: skip
    assert all(0 <= facts[4] < 5 for facts in observed)


async def test_extra_routes_get_the_same_care(connect: Connect) -> None:
    async def limited(request: web.Request) -> web.Response:
        raise web.HTTPTooManyRequests(headers={"Retry-After": "3"}, text="slow down")

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.send_str(current_request_id())
        await response.close()
        return response

    # Under the prefix of a contract, which a sub-application would swallow.
    routes = [web.get(f"{BASE}/limited", limited), web.get("/moved", moved), web.get(f"{BASE}/socket", socket)]
    client = await connect(runtime_app(GET, extra_routes=routes))
    answer = await client.get(f"{BASE}/limited")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert (await answer.json())["detail"] == "slow down"
    answer = await client.get("/moved", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere")
    assert "X-Request-ID" in answer.headers
    async with client.ws_connect(f"{BASE}/socket", headers={"X-Request-ID": "mine"}) as connection:
        assert await connection.receive_str() == "mine"


async def test_streams_and_pages_pass_with_the_common_headers(connect: Connect) -> None:
    content = document({"/things": {"get": operation("events")}, "/page": {"get": operation("page")}})
    content["paths"]["/things"]["get"]["responses"]["200"]["content"] = {
        "text/event-stream": {"schema": {"type": "string"}}
    }
    content["paths"]["/page"]["get"]["responses"]["200"]["content"] = {"text/html": {"schema": {"type": "string"}}}

    async def events(call: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(call.request)
        await response.write(b"data: 1\n\n")
        return response

    async def page(call: Any) -> web.Response:
        headers = {"Content-Security-Policy": "default-src 'self'"}
        return web.Response(text="<p>hi</p>", content_type="text/html", headers=headers)

    violations: list[str] = []
    options = RuntimeOptions(
        response_validation="strict", response_violations=violations, cors_origins=("https://app.example",)
    )
    client = await connect(runtime_app(content, {"events": events, "page": page}, options=options))
    answer = await client.get(URL, headers={"X-Request-ID": "mine", "Origin": "https://app.example"})
    assert await answer.text() == "data: 1\n\n"
    assert answer.headers["X-Request-ID"] == "mine"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    head = await client.head(URL)
    assert (head.status, head.content_type) == (200, "text/event-stream")
    answer = await client.get(f"{BASE}/page")
    assert (await answer.text(), answer.headers["Content-Security-Policy"]) == ("<p>hi</p>", "default-src 'self'")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert violations == []


async def test_an_error_after_the_stream_began_ends_the_connection(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(call: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(call.request)
        await response.write(b"some")
        raise Problem(status=503, code="gone", title="Gone")

    client = await connect(runtime_app(GET, handler))
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(f"GET {URL} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    received = await asyncio.wait_for(reader.read(), 5)
    assert received.count(b"HTTP/1.1") == 1
    assert not received.endswith(b"0\r\n\r\n")
    assert "error after the response began" in caplog.messages
    writer.close()
    await writer.wait_closed()


async def test_raw_bodies_stay_as_they_were_sent(connect: Connect) -> None:
    content = document(
        {"/things": {"post": body_operation(closed({}), **{"x-raw-body": True, "x-max-body-bytes": 50})}}
    )
    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    sent = b'{"b":1, "a" : NaN,"a":\xff}\r\n'
    headers = {"Content-Type": "application/json"}
    assert (await client.post(URL, data=sent, headers=headers)).status == 200
    assert (recorder.last.raw, recorder.last.body) == (sent, None)
    assert (await client.post(URL, data=b"x" * 51, headers=headers)).status == 413
    assert (await client.post(URL, data=sent, headers={"Content-Type": "text/plain"})).status == 415
    assert (await client.post(URL)).status == 400


async def test_a_required_body_is_required(connect: Connect) -> None:
    client = await connect(runtime_app(POST))
    answer = await client.post(URL)
    assert answer.status == 400
    assert (await answer.json())["errors"] == [{"pointer": "#/body", "rule": "required", "message": "is required"}]


async def test_json_media_types_with_a_suffix(connect: Connect) -> None:
    content = document({"/things": {"patch": body_operation(NAME)}})
    body = content["paths"]["/things"]["patch"]["requestBody"]
    body["content"] = {"application/merge-patch+json": json_content(NAME)["application/json"]}
    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    headers = {"Content-Type": "application/merge-patch+json"}
    assert (await client.patch(URL, data=b'{"name": "a"}', headers=headers)).status == 200
    assert recorder.last.body == {"name": "a"}
    assert (await client.patch(URL, json={"name": "a"})).status == 415


async def test_problem_members(connect: Connect) -> None:
    refusal = Problem(
        "Only 3 are left", status=409, code="activity.full", title="Full", extra={"left": 3, "code": "not this"}
    )
    client = await connect(runtime_app(GET, Recorder(refusal)))
    answer = await client.get(URL, headers={"X-Request-ID": "mine"})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert await answer.json() == {
        "type": "urn:problem:activity.full", "title": "Full", "status": 409, "detail": "Only 3 are left",
        "instance": "urn:request:mine", "code": "activity.full", "left": 3,
    }  # fmt: skip
