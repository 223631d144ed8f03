"""Rows 1 to 6, 14 and 17 to 20 of the table in contracts/runtime/README.md: bodies and forms.

Each test shows the behaviour on connexion 2.15.1 as it comes and then on the runtime.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from aiohttp import FormData

from contracts.runtime import Reply, Upload, lint
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import (
    BASE,
    Recorder,
    bare_app,
    body_operation,
    closed,
    contract,
    document,
    operation,
    runtime_app,
)

# connexion calls what jsonschema and aiohttp deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAME = closed({"name": {"type": "string", "maxLength": 10}})
JSON = {"Content-Type": "application/json"}
URL = f"{BASE}/things"


def posts(schema: dict[str, Any], example: Any = None, **members: Any) -> dict[str, Any]:
    return document({"/things": {"post": body_operation(schema, example, **members)}})


def form_document(schema: dict[str, Any], **media: Any) -> dict[str, Any]:
    body = {"required": True, "content": {"multipart/form-data": {"schema": schema, **media}}}
    return document({"/things": {"post": operation(requestBody=body)}})


async def test_d01_body_that_is_not_utf8(connect: Connect) -> None:
    bare = await connect(bare_app(posts(NAME)))
    assert (await bare.post(URL, data=b'{"name": "\xff"}', headers=JSON)).status == 500

    client = await connect(runtime_app(posts(NAME)))
    answer = await client.post(URL, data=b'{"name": "\xff"}', headers=JSON)
    assert answer.status == 400
    assert (await answer.json())["errors"] == [
        {"pointer": "#/body", "rule": "json.encoding", "message": "must be UTF-8"}
    ]


async def test_d02_invalid_json_reaches_nobody(connect: Connect) -> None:
    seen = []

    async def handler(body: Any) -> Any:
        seen.append(body)
        return {}, 200

    bare = await connect(bare_app(posts({}), handler))
    assert (await bare.post(URL, data=b'{"name":', headers=JSON)).status == 200
    assert seen == ['{"name":']

    recorder = Recorder()
    client = await connect(runtime_app(posts(NAME), recorder))
    answer = await client.post(URL, data=b'{"name":', headers=JSON)
    assert (answer.status, (await answer.json())["code"]) == (400, "contract.json")
    assert recorder.calls == []


async def test_d03_nan_is_refused_and_never_sent(connect: Connect) -> None:
    seen = []

    async def handler(body: Any) -> Any:
        seen.append(body)
        return {"n": math.nan}, 200

    schema = closed(
        {"n": {"type": "number", "minimum": 0, "maximum": 9}, "m": {"type": "number", "minimum": 0, "maximum": 9}}
    )
    bare = await connect(bare_app(posts(schema), handler))
    answer = await bare.post(URL, data=b'{"n": NaN}', headers=JSON)
    assert (answer.status, "NaN" in await answer.text()) == (200, True)
    assert math.isnan(seen[0]["n"])

    client = await connect(runtime_app(posts(schema), Recorder(Reply(200, {"n": math.nan}))))
    answer = await client.post(URL, data=b'{"n": NaN, "m": -Infinity}', headers=JSON)
    problem = await answer.json()
    assert answer.status == 400
    assert {(e["pointer"], e["rule"]) for e in problem["errors"]} == {
        ("#/body/n", "json.nan"),
        ("#/body/m", "json.nan"),
    }
    assert "NaN" not in await (await client.post(URL, json={"n": 1})).text()


async def test_d04_optional_body_may_be_absent(connect: Connect) -> None:
    content = posts(NAME, required=False)
    bare = await connect(bare_app(content))
    assert (await bare.post(URL, headers=JSON)).status == 400

    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    assert (await client.post(URL, headers=JSON)).status == 200
    assert (await client.post(URL)).status == 200
    assert [call.body for call in recorder.calls] == [None, None]


async def test_d05_media_type_is_looked_at(connect: Connect) -> None:
    bare = await connect(bare_app(posts(NAME)))
    assert (await bare.post(URL, data=b'{"name": "a"}', headers={"Content-Type": "text/plain"})).status == 200
    assert (await bare.post(URL, data={"name": "a"})).status == 400

    client = await connect(runtime_app(posts(NAME)))
    for data, headers in ((b'{"name": "a"}', {"Content-Type": "text/plain"}), ({"name": "a"}, {})):
        answer = await client.post(URL, data=data, headers=headers)
        assert (answer.status, (await answer.json())["code"]) == (415, "contract.media_type")
        assert answer.headers["Accept"] == answer.headers["Accept-Post"] == "application/json"
    charset = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post(URL, data=b'{"name": "a"}', headers=charset)).status == 200


async def test_d06_multipart_without_boundary(connect: Connect) -> None:
    content = document({"/things": {"delete": operation()}})
    headers = {"Content-Type": "multipart/form-data"}
    bare = await connect(bare_app(content))
    assert (await bare.delete(URL, data=b"x", headers=headers)).status == 500

    client = await connect(runtime_app(content))
    assert (await client.delete(URL, data=b"x", headers=headers)).status == 200
    client = await connect(runtime_app(form_document(NAME)))
    answer = await client.post(URL, data=b"x", headers=headers)
    assert answer.status == 400
    assert (await answer.json())["errors"][0]["pointer"] == "#/header/Content-Type"


async def test_d14_one_media_type_per_request_body(connect: Connect) -> None:
    content = posts(NAME)
    media = content["paths"]["/things"]["post"]["requestBody"]["content"]
    media["application/x-www-form-urlencoded"] = {"schema": NAME}
    bare = await connect(bare_app(content))
    # Neither schema is applied to the form: a name of more than ten characters passes.
    assert (await bare.post(URL, data={"name": "much longer than ten"})).status == 200

    assert "sample: POST /things: requestBody needs exactly one media type" in lint([contract(content)])


async def test_d17_handler_may_set_the_content_type(connect: Connect) -> None:
    async def handler() -> Any:
        return {}, 200, {"Content-Type": "application/json"}

    content = document({"/things": {"get": operation()}})
    bare = await connect(bare_app(content, handler))
    assert (await bare.get(URL)).status == 500

    reply = Reply(200, {}, {"content-type": "application/vnd.sample+json"})
    client = await connect(runtime_app(content, Recorder(reply)))
    answer = await client.get(URL)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/vnd.sample+json")


async def test_d18_repeated_form_fields_and_files(connect: Connect) -> None:
    seen = []

    async def handler(**kwargs: Any) -> Any:
        seen.append(kwargs)
        return {}, 200

    tags = {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}}
    photos = {"type": "array", "maxItems": 5, "items": {"type": "string", "format": "binary"}}
    content = form_document(closed({"tags": tags, "photos": photos}))

    def form() -> FormData:
        data = FormData()
        for tag in ("a", "b"):
            data.add_field("tags", tag)
        for name in ("1.png", "2.png"):
            data.add_field("photos", name.encode(), filename=name, content_type="image/png")
        return data

    bare = await connect(bare_app(content, handler))
    assert (await bare.post(URL, data=form())).status == 200
    assert seen[0]["body"]["tags"] == ["b"]

    recorder = Recorder()
    client = await connect(runtime_app(content, recorder))
    assert (await client.post(URL, data=form())).status == 200
    assert recorder.last.body["tags"] == ["a", "b"]
    assert recorder.last.body["photos"] == [Upload(n, "image/png", n.encode()) for n in ("1.png", "2.png")]


async def test_d19_broken_json_in_a_multipart_part(connect: Connect) -> None:
    content = form_document(closed({"meta": closed({"n": {"type": "integer", "minimum": 0, "maximum": 9}})}))
    bare = await connect(bare_app(content))
    client = await connect(runtime_app(content))
    answers = []
    for each in (bare, client):
        form = FormData()
        form.add_field("meta", '{"n":', content_type="application/json")
        answers.append(await each.post(URL, data=form))
    assert [answer.status for answer in answers] == [500, 400]
    assert (await answers[1].json())["errors"][0]["pointer"] == "#/body/meta"


async def test_d20_body_of_delete_is_refused_by_the_lint(connect: Connect) -> None:
    seen = []

    async def handler(**kwargs: Any) -> Any:
        seen.append(kwargs)
        return {}, 200

    content = document({"/things": {"delete": body_operation(NAME)}})
    bare = await connect(bare_app(content, handler))
    assert (await bare.delete(URL, json={"name": "a"})).status == 200
    assert seen == [{}]

    assert "sample: DELETE /things: DELETE has no request body" in lint([contract(content)])
