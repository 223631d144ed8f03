"""Rows 9, 15, 16, 23, 25 to 28 and 32 to 35 of the table in contracts/runtime/README.md: loading, answers, routing.

Each test shows the behaviour on connexion 2.15.1 as it comes and then on the runtime.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from aiohttp import web

from contracts.runtime import ContractError, Problem, RuntimeOptions, load_contracts
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    BASE,
    Recorder,
    accept_good,
    bare_app,
    connexion,
    contract,
    document,
    operation,
    query,
    runtime_app,
)

# connexion calls what jsonschema and aiohttp deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

URL = f"{BASE}/things"
BEARER = {"type": "http", "scheme": "bearer"}


def simple(**members: Any) -> dict[str, Any]:
    return document({"/things": {"get": operation(**members)}})


async def test_d09_headers_of_refusals_survive(connect: Connect) -> None:
    async def handler() -> Any:
        raise web.HTTPTooManyRequests(headers={"Retry-After": "7"})

    bare = await connect(bare_app(simple(), handler))
    limited = await bare.get(URL)
    assert (limited.status, "Retry-After" in limited.headers) == (429, False)
    wrong_method = await bare.patch(URL)
    assert (wrong_method.status, "Allow" in wrong_method.headers) == (405, False)
    protected = document(
        {"/things": {"get": operation(security=[{"bearer": []}])}},
        schemes={"bearer": BEARER | {"x-bearerInfoFunc": f"{__name__}.connexion_bearer"}},
    )
    refused = await (await connect(bare_app(protected))).get(URL)
    assert (refused.status, "WWW-Authenticate" in refused.headers) == (401, False)

    for refusal in (
        web.HTTPTooManyRequests(headers={"Retry-After": "7"}),
        Problem(status=429, code="rate", title="Too many", headers={"Retry-After": "7", "RateLimit": '"a";r=0;t=7'}),
    ):
        client = await connect(runtime_app(simple(), Recorder(refusal)))
        limited = await client.get(URL)
        assert (limited.status, limited.headers["Retry-After"]) == (429, "7")
    assert limited.headers["RateLimit"] == '"a";r=0;t=7'
    wrong_method = await client.patch(URL)
    assert (wrong_method.status, wrong_method.headers["Allow"]) == (405, "GET,HEAD,OPTIONS")
    client = await connect(runtime_app(protected, security={"bearer": accept_good}))
    refused = await client.get(URL)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="API"')


def connexion_bearer(token: str) -> dict[str, str] | None:
    return {"sub": "somebody"} if token == "good" else None


async def test_d15_answers_that_are_not_json_are_left_alone(connect: Connect) -> None:
    async def handler(**_kwargs: Any) -> Any:
        return web.Response(text="1\n", content_type="text/csv")

    content = simple()
    content["paths"]["/things"]["get"]["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    bare = await connect(bare_app(content, handler, validate_responses=True))
    assert (await bare.get(URL)).status == 500

    violations: list[str] = []
    options = RuntimeOptions(response_validation="strict", response_violations=violations)
    client = await connect(runtime_app(content, handler=_csv, options=options))
    answer = await client.get(URL)
    assert (answer.status, await answer.text(), violations) == (200, "1\n", [])


async def _csv(_call: Any) -> web.Response:
    return web.Response(text="1\n", content_type="text/csv")


async def test_d16_the_order_of_responses_means_nothing(connect: Connect) -> None:
    content = simple()
    responses = content["paths"]["/things"]["get"]["responses"]
    content["paths"]["/things"]["get"]["responses"] = {"4XX": responses["4XX"], "200": responses["200"]}
    bare = await connect(bare_app(content))
    client = await connect(runtime_app(content))
    types = [(await each.get(URL)).headers["Content-Type"] for each in (bare, client)]
    assert types == ["application/problem+json; charset=utf-8", "application/json"]


async def test_d23_open_id_connect_is_a_bearer_token(connect: Connect) -> None:
    scheme = {"type": "openIdConnect", "openIdConnectUrl": "https://issuer.example/.well-known/openid-configuration"}
    content = document({"/things": {"get": operation(security=[{"oidc": ["read"]}])}}, schemes={"oidc": scheme})
    headers = {"Authorization": "Bearer good"}
    bare = await connect(bare_app(content))
    assert (await bare.get(URL, headers=headers)).status == 401

    client = await connect(runtime_app(content, security={"oidc": accept_good}))
    assert (await client.get(URL, headers=headers)).status == 200
    assert (await client.get(URL)).status == 401


def test_d25_openapi_3_1_is_refused_in_words() -> None:
    content = simple() | {"openapi": "3.1.0"}
    with pytest.raises(Exception, match="does not match"):
        bare_app(content)
    with pytest.raises(ContractError, match=r"openapi must be 3\.0\.x"):
        contract(content)


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_d26_references_to_the_shared_file_are_bundled(tmp_path: Path) -> None:
    content = simple(parameters=[{"$ref": "common.yaml#/components/parameters/Limit"}])
    shared = {
        "components": {
            "parameters": {"Limit": query("limit", {"$ref": "#/components/schemas/Limit"})},
            "schemas": {"Limit": {"type": "integer", "minimum": 1, "maximum": 9}},
        }
    }
    write(tmp_path, "sample", content)
    write(tmp_path, "common", shared)
    with pytest.raises(Exception, match="unknown url type"):
        connexion.AioHttpApp(__name__, specification_dir=str(tmp_path)).add_api("sample.yaml")

    (bundled,) = load_contracts(tmp_path, ["sample"])
    assert bundled.document["paths"]["/things"]["get"]["parameters"] == [{"$ref": "#/components/parameters/Limit"}]
    assert bundled.document["components"]["schemas"]["Limit"] == shared["components"]["schemas"]["Limit"]
    assert bundled.shared == {("parameters", "Limit"), ("schemas", "Limit")}


def test_d27_braces_in_a_description_are_text(tmp_path: Path) -> None:
    content = simple(description="Use {{ amount }} and {% if %}.")
    write(tmp_path, "sample", content)
    with pytest.raises(Exception, match="Expected an expression"):
        connexion.AioHttpApp(__name__, specification_dir=str(tmp_path)).add_api("sample.yaml")

    (loaded,) = load_contracts(tmp_path, ["sample"])
    assert loaded.document["paths"]["/things"]["get"]["description"] == "Use {{ amount }} and {% if %}."


async def test_d28_the_served_document_is_prepared_and_clean(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    content = document(
        {"/things": {"get": operation(security=[{"bearer": []}])}},
        schemes={"bearer": BEARER | {"x-bearerInfoFunc": f"{__name__}.connexion_bearer"}},
    )
    clones = []
    bare = await connect(bare_app(content))
    clone = connexion.spec.Specification.clone
    monkeypatch.setattr(connexion.spec.Specification, "clone", lambda self: clones.append(1) or clone(self))
    for _ in range(2):
        assert "x-bearerInfoFunc" in await (await bare.get(f"{BASE}/openapi.json")).text()
    assert len(clones) == 2

    client = await connect(runtime_app(content, security={"bearer": accept_good}))
    first = await client.get(f"{BASE}/openapi.json")
    assert "x-" not in json.dumps((await first.json())["components"])
    again = await client.get(f"{BASE}/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


async def test_d32_unknown_paths_get_problem_documents(connect: Connect) -> None:
    bare = await connect(bare_app(simple()))
    assert (await bare.get("/elsewhere")).headers["Content-Type"].startswith("text/plain")

    client = await connect(runtime_app(simple()))
    for path in ("/elsewhere", f"{BASE}/unknown", "/v1", f"{URL}/"):
        answer = await client.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
        assert (await answer.json())["code"] == "contract.not_found"


async def test_d33_head_and_options(connect: Connect) -> None:
    bare = await connect(bare_app(simple()))
    assert [(await bare.request(method, URL)).status for method in ("HEAD", "OPTIONS")] == [405, 405]

    client = await connect(runtime_app(simple()))
    head = await client.head(URL)
    assert (head.status, head.headers["Content-Length"], await head.read()) == (200, "2", b"")
    options = await client.options(URL)
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_d34_a_broken_security_handler_is_one_thing(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    schemes = {
        "broken": BEARER | {"x-bearerInfoFunc": f"{__name__}.connexion_broken"},
        "key": {"type": "apiKey", "in": "header", "name": "X-Key", "x-apikeyInfoFunc": f"{__name__}.connexion_no_key"},
    }
    alone = document({"/things": {"get": operation(security=[{"broken": []}])}}, schemes=schemes)
    beside = document({"/things": {"get": operation(security=[{"broken": []}, {"key": []}])}}, schemes=schemes)
    headers = {"Authorization": "Bearer good", "X-Key": "bad"}

    async def statuses(*apps: web.Application) -> list[int]:
        return [(await (await connect(app)).get(URL, headers=headers)).status for app in apps]

    assert await statuses(bare_app(alone), bare_app(beside)) == [500, 401]

    security = {"broken": _broken, "key": accept_good}
    caplog.clear()
    assert await statuses(*(runtime_app(content, security=security) for content in (alone, beside))) == [500, 500]
    assert [record.message for record in caplog.records if record.exc_info] == ["unhandled error"] * 2


async def _broken(*_arguments: Any) -> Any:
    raise RuntimeError("the key store is gone")


def connexion_broken(token: str) -> Any:
    raise RuntimeError("the key store is gone")


def connexion_no_key(apikey: str, required_scopes: Any = None) -> None:
    return None


async def test_d35_nothing_is_compiled_during_a_request(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    content = simple(parameters=[query("n", {"type": "integer", "minimum": 0, "maximum": 9})])
    built: list[str] = []
    validator = connexion.decorators.validation.Draft4Validator
    bare = await connect(bare_app(content))
    client = await connect(runtime_app(content))

    def counting(*arguments: Any, **options: Any) -> Any:
        built.append("connexion")
        return validator(*arguments, **options)

    monkeypatch.setattr(connexion.decorators.validation, "Draft4Validator", counting)
    monkeypatch.setattr(jsonschema_rs, "Draft4Validator", lambda *_a, **_k: built.append("runtime"))
    assert (await bare.get(f"{URL}?n=1")).status == 200
    assert built == ["connexion"]
    assert (await client.get(f"{URL}?n=1")).status == 200
    assert (await client.get(f"{URL}?n=x")).status == 400
    assert built == ["connexion"]
