"""Urlencoded and multipart bodies."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import FormData

from contracts.runtime import Upload
from tests.contract.runtime.conftest import Connect
from tests.contract.runtime.harness import BASE, Recorder, closed, document, operation, runtime_app

URL = f"{BASE}/things"
INTEGER = {"type": "integer", "minimum": 0, "maximum": 9}
TEXT = {"type": "string", "maxLength": 20}
FIELDS = closed(
    {
        "name": TEXT,
        "level": INTEGER,
        "on": {"type": "boolean"},
        "tags": {"type": "array", "maxItems": 3, "items": TEXT},
        "levels": {"type": "array", "maxItems": 3, "items": INTEGER},
    },
    "name",
)
PARTS = closed(
    {
        "name": TEXT,
        "meta": closed({"level": INTEGER}, "level"),
        "photo": {"type": "string", "format": "binary", "maxLength": 10},
    },
    "photo",
)
BOUNDARY = "multipart/form-data; boundary=b"


def form(schema: dict[str, Any], media_type: str, **media: Any) -> dict[str, Any]:
    body = {"required": True, "content": {media_type: {"schema": schema, **media}}}
    return document({"/things": {"post": operation(requestBody=body)}})


def multipart(**media: Any) -> dict[str, Any]:
    return form(PARTS, "multipart/form-data", **media)


async def faults(answer: Any) -> set[tuple[str, str]]:
    assert answer.status == 400, await answer.text()
    return {(e["pointer"], e["rule"]) for e in (await answer.json())["errors"]}


async def test_urlencoded_fields_have_their_types(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(form(FIELDS, "application/x-www-form-urlencoded"), recorder))
    data = [("name", "a b"), ("level", "3"), ("on", "true"), ("tags", "x"), ("tags", ""), ("levels", "1")]
    answer = await client.post(URL, data=FormData(data))
    assert answer.status == 200, await answer.text()
    assert recorder.last.body == {"name": "a b", "level": 3, "on": True, "tags": ["x", ""], "levels": [1]}


async def test_urlencoded_faults(connect: Connect) -> None:
    client = await connect(runtime_app(form(FIELDS, "application/x-www-form-urlencoded")))
    data = [("level", "٣"), ("on", "yes"), ("tags", "x" * 21), ("levels", "1"), ("levels", "x"), ("z", "1")]
    assert await faults(await client.post(URL, data=FormData(data))) == {
        ("#/body/name", "required"), ("#/body/level", "type"), ("#/body/on", "type"), ("#/body/tags/0", "maxLength"),
        ("#/body/levels/1", "type"), ("#/body/z", "unknown"),
    }  # fmt: skip
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert await faults(await client.post(URL, data=b"name=\xff", headers=headers)) == {("#/body", "encoding")}
    assert ("#/body/name", "nul") in await faults(await client.post(URL, data=b"name=%00", headers=headers))
    assert await faults(await client.post(URL, data=b"name=a&name=b", headers=headers)) == {("#/body/name", "repeated")}


async def test_multipart_parts_have_their_types(connect: Connect) -> None:
    recorder = Recorder()
    client = await connect(runtime_app(multipart(encoding={"photo": {"contentType": "image/png"}}), recorder))
    data = (
        "--b\r\nContent-Disposition: form-data; name=name\r\n\r\n₹\r\n"
        '--b\r\nContent-Disposition: form-data; name="meta"\r\nContent-Type: application/json\r\n\r\n{"level": 3}\r\n'
        '--b \r\ncontent-disposition: form-data; name="photo"; filename="a %22b%22.png"\r\nContent-Type: image/png'
        "\r\n\r\n\r\n\x00--b\r\n--b--\r\n"
    ).encode()
    answer = await client.post(URL, data=data, headers={"Content-Type": BOUNDARY})
    assert answer.status == 200, await answer.text()
    photo = Upload('a "b".png', "image/png", b"\r\n\x00--b")
    assert recorder.last.body == {"name": "₹", "meta": {"level": 3}, "photo": photo}


async def test_multipart_faults(connect: Connect) -> None:
    client = await connect(runtime_app(multipart(encoding={"photo": {"contentType": "image/png"}})))
    data = FormData()
    data.add_field("meta", '{"level": 30, "level": 1}', content_type="application/json")
    data.add_field("photo", b"x" * 11, filename="a", content_type="image/gif")
    data.add_field("photo", b"x", filename="b", content_type="image/png")
    data.add_field("other", "x")
    assert await faults(await client.post(URL, data=data)) == {
        ("#/body/meta/level", "json.duplicate_key"), ("#/body/photo", "maxLength"), ("#/body/photo", "contentType"),
        ("#/body/photo", "repeated"), ("#/body/other", "unknown"),
    }  # fmt: skip
    data = FormData()
    data.add_field("meta", '{"level": 30}', content_type="application/json")
    assert await faults(await client.post(URL, data=data)) == {
        ("#/body/meta/level", "maximum"), ("#/body/photo", "required"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"--b\r\n", "multipart"),
        (b"nothing", "multipart"),
        (b"--b--\r\nepilogue", "multipart"),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n', "multipart"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "multipart"),
        (b'--b\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--b--', "multipart"),
        (b"--b\r\nno header end--b--", "multipart"),
        (b"--b\r\n\r\nx\r\n--b--", "multipart"),
        (b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--b--', "encoding"),
        (b"".join([b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'] * 1001) + b"--b--", "maxItems"),
    ],
)
async def test_malformed_multipart(connect: Connect, data: bytes, rule: str) -> None:
    client = await connect(runtime_app(multipart()))
    answer = await client.post(URL, data=data, headers={"Content-Type": BOUNDARY})
    assert rule in {found for _pointer, found in await faults(answer)}


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a b"]
)
async def test_boundary_is_needed(connect: Connect, content_type: str) -> None:
    client = await connect(runtime_app(multipart()))
    answer = await client.post(URL, data=b"x", headers={"Content-Type": content_type})
    assert answer.status == 400
