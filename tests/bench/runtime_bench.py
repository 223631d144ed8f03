"""The contract runtime measured against bare aiohttp and bare connexion: `python -m tests.bench.runtime_bench`.

One server process per variant, all alive throughout; this process is the load generator. Rounds are interleaved
(aiohttp, runtime, connexion, aiohttp, ...), a ratio is taken within each round and the median over the rounds is
reported, so that a slow spell of the machine hits all sides. Rates per second of the server's CPU time stand beside
rates of the wall clock: they hold still where others use the machine too. `--uvloop` runs every server on uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aiohttp import web

from contracts.runtime import ApiRunner, Call, Problem, Reply, RuntimeOptions, create_api, load_contracts

HOST = "127.0.0.1"
CONNECTIONS = 16
WINDOW_S = 1.0
TOKENS = {"token-of-the-bench": "usr_1"}
ORDER = {"name": "Shuttle", "amount": "500.00", "quantity": 2, "kind": "good", "due_on": "2026-12-31"}
CREATED = {**ORDER, "id": "ord_1"}
PAGE = {"items": [CREATED, CREATED], "next_cursor": None}

PROBLEM = {
    "description": "Refused.",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}
FIELDS = {
    "name": {"type": "string", "minLength": 1, "maxLength": 80},
    "amount": {"type": "string", "format": "decimal", "maxLength": 20},
    "quantity": {"type": "integer", "minimum": 1, "maximum": 1000},
    "kind": {"type": "string", "enum": ["good", "service"]},
    "due_on": {"type": "string", "format": "date"},
}


def answers(status: str, schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    """The responses object of a benchmark operation."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {status: {"description": "Done.", "content": content}, "4XX": PROBLEM}


def post_operation(name: str) -> dict[str, Any]:
    """Bearer, a header parameter and a body of five fields."""
    schema = {"type": "object", "additionalProperties": False, "required": list(FIELDS), "properties": FIELDS}
    header = {"type": "string", "minLength": 8, "maxLength": 64, "pattern": "^[A-Za-z0-9-]+$"}
    return {
        "operationId": name,
        "summary": "Create an order",
        "security": [{"bearerAuth": ["orders"]}],
        "parameters": [{"name": "Idempotency-Key", "in": "header", "required": True, "schema": header}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": ORDER}}},
        "responses": answers("201", {"type": "object", "properties": FIELDS}, CREATED),
    }


def get_operation(name: str) -> dict[str, Any]:
    """Two query parameters, public."""
    limit = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    kind = {"type": "string", "enum": ["good", "service"]}
    return {
        "operationId": name,
        "summary": "List orders",
        "security": [],
        "parameters": [
            {"name": "limit", "in": "query", "schema": limit},
            {"name": "kind", "in": "query", "schema": kind},
        ],
        "responses": answers("200", {"type": "object", "properties": {"items": {"type": "array", "items": {}}}}, PAGE),
    }


def document(slice_name: str, paths: dict[str, Any]) -> dict[str, Any]:
    """A complete contract."""
    return {
        "openapi": "3.0.3",
        "info": {"title": slice_name, "version": "1.0.0"},
        "servers": [{"url": f"/v1/{slice_name}"}],
        "paths": paths,
        "components": {"securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}}},
    }


def small_document() -> dict[str, Any]:
    return document("bench", {"/orders": {"post": post_operation("createOrder"), "get": get_operation("listOrders")}})


def write_contracts(directory: Path, documents: Mapping[str, dict[str, Any]]) -> None:
    for name, content in documents.items():
        # JSON is YAML; the contract loader reads it as such.
        (directory / f"{name}.yaml").write_text(json.dumps(content, indent=1), encoding="utf-8")


async def create_order(call: Call) -> Reply:
    return Reply(201, {**call.body, "id": "ord_1"})


async def list_orders(call: Call) -> Reply:
    return Reply(200, PAGE)


async def authenticate(request: web.Request, credential: str, scopes: Sequence[str]) -> str:
    user = TOKENS.get(credential)
    if user is None:
        raise Problem(status=401, code="auth.invalid", title="The credentials are not valid")
    return user


def runtime_app() -> web.Application:
    with tempfile.TemporaryDirectory() as folder:
        write_contracts(Path(folder), {"bench": small_document()})
        contracts = load_contracts(Path(folder), ["bench"])
    return create_api(
        contracts,
        operations={"createOrder": create_order, "listOrders": list_orders},
        security={"bearerAuth": authenticate},
        options=RuntimeOptions(),
    )


def bare_app() -> web.Application:
    async def create(request: web.Request) -> web.Response:
        user = TOKENS.get(request.headers["Authorization"].removeprefix("Bearer "))
        if user is None or "Idempotency-Key" not in request.headers:
            raise web.HTTPUnauthorized
        body = await request.json()
        return web.json_response({**body, "id": "ord_1"}, status=201)

    async def list_(request: web.Request) -> web.Response:
        query = request.query
        if not 1 <= int(query.get("limit", "20")) <= 100 or query.get("kind") not in ("good", "service"):
            raise web.HTTPBadRequest
        return web.json_response(PAGE)

    app = web.Application()
    app.router.add_post("/v1/bench/orders", create)
    app.router.add_get("/v1/bench/orders", list_)
    return app


def connexion_token(token: str) -> dict[str, Any] | None:
    user = TOKENS.get(token)
    return {"uid": user, "scope": ["orders"]} if user else None


async def connexion_create(body: dict[str, Any]) -> tuple[dict[str, Any], int]:
    return {**body, "id": "ord_1"}, 201


async def connexion_list(limit: int = 20, kind: str | None = None) -> dict[str, Any]:
    return PAGE


def connexion_app() -> web.Application:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import connexion
    content = small_document()
    module = "tests.bench.runtime_bench"
    content["components"]["securitySchemes"]["bearerAuth"]["x-bearerInfoFunc"] = f"{module}.connexion_token"
    orders = content["paths"]["/orders"]
    orders["post"]["operationId"] = f"{module}.connexion_create"
    orders["get"]["operationId"] = f"{module}.connexion_list"
    application = connexion.AioHttpApp(__name__)
    application.add_api(content, strict_validation=True, options={"swagger_ui": False})
    app: web.Application = application.app
    return app


VARIANTS: dict[str, Callable[[], web.Application]] = {
    "aiohttp": bare_app,
    "runtime": runtime_app,
    "connexion": connexion_app,
}


def serve(variant: str, use_uvloop: bool, channel: Connection) -> None:
    """Run one server; every message but "stop" is answered with the CPU seconds used so far."""

    def answer() -> None:
        while channel.recv() != "stop":
            channel.send(time.process_time())

    async def main() -> None:
        app = VARIANTS[variant]()
        runner_type = ApiRunner if variant == "runtime" else web.AppRunner
        runner = runner_type(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        channel.send(runner.addresses[0][1])
        await asyncio.get_running_loop().run_in_executor(None, answer)
        await runner.cleanup()

    if use_uvloop:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


class LoadProtocol(asyncio.Protocol):
    """One keep-alive connection that always has one request in flight."""

    def __init__(self, request: bytes, status: bytes) -> None:
        self._request = request
        self._status = status
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.count = 0
        self.fault: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            start = buffer.index(b"Content-Length: ") + 16
            length = int(buffer[start : buffer.index(b"\r\n", start)])
            if len(buffer) >= head + 4 + length:
                if not buffer.startswith(self._status):
                    self.fault = buffer.decode("utf-8", "replace")
                self.count += 1
                self._buffer = b""
                assert self._transport is not None
                self._transport.write(self._request)
                return
        self._buffer = buffer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def load(port: int, request: bytes, status: bytes, channel: Connection) -> tuple[float, float]:
    """Requests per second of wall clock, and per second of the server's CPU, over one window."""
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: LoadProtocol(request, status), HOST, port) for _ in range(CONNECTIONS)
    ]
    protocols = [protocol for _transport, protocol in pairs]
    spinning = True

    def spin() -> None:
        # The generator never sleeps: a server would pay for waking it with every answer, a slower one more often.
        if spinning:
            loop.call_soon(spin)

    spin()
    await asyncio.sleep(WINDOW_S / 10)
    before, started, cpu = sum(p.count for p in protocols), time.perf_counter(), cpu_seconds(channel)
    await asyncio.sleep(WINDOW_S)
    done = sum(p.count for p in protocols) - before
    elapsed, used = time.perf_counter() - started, cpu_seconds(channel) - cpu
    spinning = False
    for protocol in protocols:
        protocol.close()
    faults = [protocol.fault for protocol in protocols if protocol.fault]
    if faults or not done:
        raise RuntimeError(f"the server answered something else: {faults[:1]}")
    return done / elapsed, done / used


def cpu_seconds(channel: Connection) -> float:
    """CPU seconds a server has used."""
    channel.send("cpu")
    seconds: float = channel.recv()
    return seconds


def requests() -> dict[str, tuple[bytes, bytes]]:
    """The two requests, as bytes, with the status line each must get."""
    body = json.dumps(ORDER).encode()
    post = (
        b"POST /v1/bench/orders HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\nAuthorization: Bearer token-of-the-bench\r\n"
        b"Idempotency-Key: 0123456789abcdef\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    get = b"GET /v1/bench/orders?limit=50&kind=good HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n"
    return {"POST": (post, b"HTTP/1.1 201"), "GET": (get, b"HTTP/1.1 200")}


Rates = dict[str, dict[str, list[tuple[float, float]]]]


def measure_throughput(rounds: int, *, use_uvloop: bool) -> Rates:
    """Rates of every request and variant, one pair per round."""
    context = multiprocessing.get_context("spawn")
    servers: dict[str, tuple[int, Connection]] = {}
    processes = []
    for variant in VARIANTS:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(variant, use_uvloop, theirs))
        process.start()
        servers[variant] = (ours.recv(), ours)
        processes.append(process)
    results: Rates = {name: {variant: [] for variant in VARIANTS} for name in requests()}
    for number in range(-1, rounds):
        for name, (request, status) in requests().items():
            for variant, (port, channel) in servers.items():
                rates = asyncio.run(load(port, request, status, channel))
                # The first round warms caches and is thrown away.
                if number >= 0:
                    results[name][variant].append(rates)
    for _port, channel in servers.values():
        channel.send("stop")
    for process in processes:
        process.join()
    return results


def print_throughput(results: Rates) -> None:
    """Medians with the medians of the ratios within each round, and the best round of each variant.

    What else runs on the machine only ever slows a round down, so the best rounds compare the programs themselves.
    """
    print(f"{'':16}" + "".join(f"{variant:>12}" for variant in VARIANTS) + "".join(f"{v:>14}/1st" for v in VARIANTS))
    for name, rates in results.items():
        for index, clock in enumerate(("wall", "cpu")):
            columns = {variant: [pair[index] for pair in pairs] for variant, pairs in rates.items()}
            first = next(iter(columns.values()))
            medians = [statistics.median(column) for column in columns.values()]
            ratios = [
                statistics.median(a / b for a, b in zip(column, first, strict=True)) for column in columns.values()
            ]
            best = [max(column) for column in columns.values()]
            _print_row(f"{name} {clock}", medians, ratios)
            _print_row(f"{name} {clock} best", best, [rate / best[0] for rate in best])


def _print_row(label: str, rates: Sequence[float], ratios: Sequence[float]) -> None:
    print(f"{label:16}" + "".join(f"{rate:10.0f}/s" for rate in rates) + "".join(f"{ratio:18.2f}" for ratio in ratios))


def measure_start(operations: int) -> tuple[float, float, float]:
    """Seconds to load and compile, seconds per GET of the document of all, seconds connexion needs to start."""
    per_contract = operations // 10
    documents = {
        f"slice{number}": document(
            f"slice{number}",
            {
                f"/r{index}": (
                    {"post": post_operation(f"create{number}x{index}")}
                    if index % 2
                    else {"get": get_operation(f"list{number}x{index}")}
                )
                for index in range(per_contract)
            },
        )
        for number in range(10)
    }
    handlers = {
        operation["operationId"]: list_orders
        for content in documents.values()
        for item in content["paths"].values()
        for operation in item.values()
    }
    with tempfile.TemporaryDirectory() as folder:
        write_contracts(Path(folder), documents)
        started = time.perf_counter()
        contracts = load_contracts(Path(folder), list(documents))
        app = create_api(contracts, operations=handlers, security={"bearerAuth": authenticate})
        start_s = time.perf_counter() - started
    return start_s, asyncio.run(_time_document(app)), _time_connexion(documents)


async def _time_document(app: web.Application) -> float:
    runner = ApiRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    reader, writer = await asyncio.open_connection(HOST, runner.addresses[0][1])
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        writer.write(b"GET /v1/openapi.json HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        start = head.index(b"Content-Length: ") + 16
        await reader.readexactly(int(head[start : head.index(b"\r\n", start)]))
        seconds.append(time.perf_counter() - started)
    writer.close()
    await runner.cleanup()
    return statistics.median(seconds)


def _time_connexion(documents: Mapping[str, dict[str, Any]]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import connexion
        from connexion.resolver import Resolver
    application = connexion.AioHttpApp(__name__)
    started = time.perf_counter()
    for content in documents.values():
        application.add_api(content, resolver=Resolver(lambda _name: connexion_list), options={"swagger_ui": False})
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--operations", type=int, default=600)
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("connexion").setLevel(logging.CRITICAL)
    print_throughput(measure_throughput(arguments.rounds, use_uvloop=arguments.uvloop))
    start_s, document_s, connexion_s = measure_start(arguments.operations)
    print(f"start of {arguments.operations} operations: {start_s:.2f} s (bare connexion {connexion_s:.2f} s)")
    print(f"GET /v1/openapi.json of {arguments.operations} operations: {document_s * 1000:.2f} ms")


if __name__ == "__main__":
    main()
