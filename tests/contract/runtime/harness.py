"""Small contracts served twice: by the runtime, and by connexion 2.15.1 as it comes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from contracts.runtime import ApiRunner, Call, Contract, Handler, Problem, Reply, RuntimeOptions, create_api
from contracts.runtime.loading import make_contract

with warnings.catch_warnings():
    # connexion 2.15 uses names that jsonschema deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import connexion
    from connexion.resolver import Resolver

BASE = "/v1/sample"
BARE = web.AppKey("bare", bool)
SAMPLES = Path(__file__).parent / "contracts"
REFUSED = {
    "description": "Refused.",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}

Document = dict[str, Any]


def json_content(schema: Mapping[str, Any], example: Any = None) -> dict[str, Any]:
    """The content object of a JSON body with an example, which the lint asks for."""
    return {"application/json": {"schema": dict(schema), "example": {} if example is None else example}}


def operation(operation_id: str = "sample", **members: Any) -> dict[str, Any]:
    """A public operation that answers 200 with any object."""
    return {
        "operationId": operation_id,
        "summary": "Sample",
        "security": [],
        "responses": {
            "200": {"description": "Done.", "content": json_content({"type": "object"})},
            "4XX": copy.deepcopy(REFUSED),
        },
        **members,
    }


def body_operation(
    schema: Mapping[str, Any], example: Any = None, *, required: bool = True, **members: Any
) -> dict[str, Any]:
    """An operation that reads a JSON body."""
    return operation(requestBody={"required": required, "content": json_content(schema, example)}, **members)


def closed(properties: Mapping[str, Any], *required: str, **members: Any) -> dict[str, Any]:
    """An object schema without other properties."""
    schema = {"type": "object", "additionalProperties": False, "properties": dict(properties), **members}
    return schema | ({"required": list(required)} if required else {})


def query(name: str, schema: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """A query parameter."""
    return {"name": name, "in": "query", "schema": dict(schema), **members}


def document(
    paths: Mapping[str, Any], *, schemas: Mapping[str, Any] | None = None, schemes: Mapping[str, Any] | None = None
) -> Document:
    """A complete OpenAPI 3.0 document under BASE."""
    return {
        "openapi": "3.0.3",
        "info": {"title": "Sample", "version": "1.0.0"},
        "servers": [{"url": BASE}],
        "paths": dict(paths),
        "components": {"schemas": dict(schemas or {}), "securitySchemes": dict(schemes or {})},
    }


def contract(content: Document, name: str = "sample") -> Contract:
    """A checked contract of a copy of the document."""
    return make_contract(name, copy.deepcopy(content))


class Recorder:
    """A handler that keeps its calls and gives one answer."""

    def __init__(self, answer: Any = None) -> None:
        self.calls: list[Call] = []
        self.answer = answer if answer is not None else Reply(200, {})

    async def __call__(self, call: Call) -> Any:
        self.calls.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def last(self) -> Call:
        return self.calls[-1]


def runtime_app(
    content: Document, handler: Handler | Mapping[str, Handler] | None = None, *,
    security: Mapping[str, Any] | None = None, options: RuntimeOptions | None = None,
    extra_routes: Sequence[web.RouteDef] = (),
) -> web.Application:  # fmt: skip
    """Our application of one document; one handler answers every operation unless a mapping is given."""
    sample = contract(content)
    if not isinstance(handler, Mapping):
        one = handler or Recorder()
        handler = {str(op["operationId"]): one for _method, _path, op in sample.operations()}
    return create_api([sample], operations=handler, security=security or {}, options=options, extra_routes=extra_routes)


def bare_app(
    content: Document, handler: Callable[..., Any] | None = None, *, server_args: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> web.Application:  # fmt: skip
    """The same document served by connexion alone."""

    async def empty(**_kwargs: Any) -> Any:
        return {}, 200

    application = connexion.AioHttpApp(__name__)
    resolver = Resolver(lambda _name: handler or empty)
    # What connexion is given as options counts from the first request on, and the console has no part here.
    application.add_api(
        copy.deepcopy(content),
        resolver=resolver,
        options={"swagger_ui": False, **arguments.pop("options", {})},
        **arguments,
    )
    app: web.Application = application.app
    app[BARE] = True
    return app


class ApiTestServer(TestServer):
    """A test server on the runner that production uses."""

    async def _make_runner(self, **kwargs: Any) -> ApiRunner:
        return ApiRunner(self.app, access_log=None, **kwargs)


def server_of(app: web.Application) -> BaseTestServer:
    """Our applications run on our runner, connexion's on aiohttp's."""
    return TestServer(app) if BARE in app else ApiTestServer(app)


async def accept_good(request: web.Request, credential: str, scopes: Sequence[str]) -> str:
    """A security handler that knows one credential."""
    if credential != "good":
        raise Problem(status=401, code="auth.invalid", title="The credentials are not valid")
    return "principal"


Client = Callable[[web.Application], Awaitable[Any]]
