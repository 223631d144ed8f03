"""The served contracts and their pages."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from aiohttp import web

from contracts.runtime import RuntimeOptions, create_api, load_contracts
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    SAMPLES,
    Recorder,
    accept_good,
    body_operation,
    closed,
    contract,
    document,
    operation,
    query,
)
from tests.contract.runtime.sample_app import make_app


def two_contracts() -> web.Application:
    """Two contracts whose schemas share a name and differ."""
    contracts = []
    for name, kind in (("one", "string"), ("two", "integer")):
        bounds = {"maxLength": 9} if kind == "string" else {"minimum": 0, "maximum": 9}
        content = document(
            {f"/{name}": {"post": body_operation({"$ref": "#/components/schemas/Thing"}, operationId=name)}},
            schemas={"Thing": closed({"a": {"type": kind, **bounds}}), f"Only{name}": {"type": "string"}},
            schemes={"key": {"type": "http", "scheme": "bearer" if name == "one" else "basic"}},
        )
        content["servers"] = [{"url": f"/v1/{name}"}]
        content["security"] = [{"key": []}]
        del content["paths"][f"/{name}"]["post"]["security"]
        content["tags"] = [{"name": name}]
        contracts.append(contract(content, name))
    return create_api(contracts, operations={"one": Recorder(), "two": Recorder()}, security={"key": accept_good})


async def test_each_contract_and_all_of_them(connect: Connect) -> None:
    client = await connect(two_contracts())
    one = await (await client.get("/v1/one/openapi.json")).json()
    assert list(one["paths"]) == ["/one"]
    assert "security" not in one["paths"]["/one"]["post"]
    everything = await (await client.get("/v1/openapi.json")).json()
    assert everything["servers"] == [{"url": "/v1"}]
    assert list(everything["paths"]) == ["/one/one", "/two/two"]
    assert set(everything["components"]["schemas"]) == {"OneThing", "TwoThing", "Onlyone", "Onlytwo"}
    for name in ("One", "Two"):
        operation_ = everything["paths"][f"/{name.lower()}/{name.lower()}"]["post"]
        schema = operation_["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}Thing"}
        assert operation_["security"] == [{f"{name}key": []}]
        assert f"{name}key" in everything["components"]["securitySchemes"]
    assert [tag["name"] for tag in everything["tags"]] == ["one", "two"]


async def test_shared_components_keep_their_names(connect: Connect) -> None:
    client = await connect(make_app())
    everything = await (await client.get("/v1/openapi.json")).json()
    assert {"Problem", "Fault"} <= set(everything["components"]["schemas"])


async def test_documents_are_cached_by_their_tag(connect: Connect) -> None:
    client = await connect(make_app())
    for path in ("/v1/openapi.json", "/v1/orders/openapi.json", "/", "/docs/orders", "/docs/assets/swagger-ui.css"):
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        zipped = await client.get(path, headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
        tags = {plain.headers["ETag"], zipped.headers["ETag"]}
        assert len(tags) == 2
        assert not [tag for tag in tags if not re.fullmatch('"[0-9a-f-]+(gzip)?"', tag)]
        assert gzip.decompress(await zipped.read()) == await plain.read()
        assert plain.headers["Vary"] == "Accept-Encoding"
        for known in (*tags, f'"other", W/{plain.headers["ETag"]}', "*"):
            again = await client.get(path, headers={"If-None-Match": known})
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["ETag"] in tags
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status == 200
        head = await client.head(path, headers={"Accept-Encoding": "identity"})
        assert (head.status, head.headers["Content-Length"]) == (200, plain.headers["Content-Length"])


async def test_internal_keys_stay_inside(connect: Connect) -> None:
    header = {"name": "x-internal-name", "in": "header", "schema": {"type": "string", "maxLength": 9}}
    schema = closed({"x-field": {"type": "string", "maxLength": 9, "x-secret": 1}})
    content = document(
        {
            "/things": {
                "post": body_operation(
                    schema, {"x-field": "x"}, parameters=[header, query("a", {"type": "string", "maxLength": 9})],
                    **{"x-handled-by": "our.module", "x-max-body-bytes": 9, "x-internal": {"a": 1}},
                )
            }
        }
    )  # fmt: skip
    content["paths"]["/things"]["post"]["responses"]["200"]["headers"] = {"x-count": {"schema": {"type": "integer"}}}
    content["info"]["x-team"] = "secret"
    app = create_api([contract(content)], operations={"sample": Recorder()}, security={})
    client = await connect(app)
    for path in ("/v1/openapi.json", "/v1/sample/openapi.json"):
        text = await (await client.get(path)).text()
        served = json.loads(text)
        for hidden in ("our.module", "x-secret", "x-team", '"x-internal"'):
            assert hidden not in text
        (operation_,) = (item["post"] for item in served["paths"].values())
        assert operation_["x-max-body-bytes"] == 9
        assert operation_["parameters"][0]["name"] == "x-internal-name"
        assert operation_["responses"]["200"]["headers"] == {"x-count": {"schema": {"type": "integer"}}}
        media = operation_["requestBody"]["content"]["application/json"]
        assert media["example"] == {"x-field": "x"}
        assert media["schema"]["properties"]["x-field"] == {"type": "string", "maxLength": 9}


async def test_own_formats_are_served_as_patterns(connect: Connect) -> None:
    client = await connect(make_app())
    served = await (await client.get("/v1/orders/openapi.json")).json()
    amount = served["components"]["schemas"]["NewItem"]["properties"]["amount"]
    assert re.fullmatch(amount["pattern"], "12.50")
    identifier = served["paths"]["/items/{item_id}"]["parameters"][0]["schema"]
    assert re.fullmatch(identifier["pattern"], "itm_01kar6m8w3e9q8x2v7c5n4t1zy")


async def test_pages_need_nothing_from_elsewhere(connect: Connect) -> None:
    options = RuntimeOptions(title="A <b> & c", description="Words", links=(("Events & more", "/events?a=1&b=2"),))
    client = await connect(make_app(options))
    for path, type_ in (("/", "text/html"), ("/docs/orders", "text/html")):
        answer = await client.get(path)
        assert answer.content_type == type_
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = await answer.text()
        # The policy forbids what is written inline, so nothing may be.
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=|<style|style=|javascript:", page)
        assert "://" not in page
        for reference in re.findall(r'(?:src|href)="([^"]+)"', page):
            if "events" not in reference:
                target = str(answer.url.join(type(answer.url)(reference)).relative())
                assert (await client.get(target)).status == 200, reference
    index = await (await client.get("/")).text()
    assert "A &lt;b&gt; &amp; c" in index
    assert '<a href="/events?a=1&amp;b=2">Events &amp; more</a>' in index
    assert "<b>6</b> operations" in index


@pytest.mark.parametrize(
    "asset", ["swagger-ui.css", "swagger-ui-bundle.js", "docs.css", "docs.js", "favicon-32x32.png"]
)
async def test_assets(connect: Connect, asset: str) -> None:
    client = await connect(make_app())
    answer = await client.get(f"/docs/assets/{asset}")
    assert answer.status == 200
    assert answer.headers["Cache-Control"].startswith("public, max-age=")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_contracts_without_a_shared_prefix(connect: Connect) -> None:
    contracts = []
    for name in ("one", "two"):
        content: dict[str, Any] = document({"/things": {"get": operation(name)}})
        content["servers"] = [{"url": f"/{name}"}]
        contracts.append(contract(content, name))
    app = create_api(contracts, operations={"one": Recorder(), "two": Recorder()}, security={})
    client = await connect(app)
    everything = await (await client.get("/openapi.json")).json()
    assert list(everything["paths"]) == ["/one/things", "/two/things"]
    assert "servers" not in everything


def test_loading_twice_gives_the_same_bytes() -> None:
    first, second = (load_contracts(SAMPLES, ["orders"])[0].document for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
