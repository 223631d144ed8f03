"""What is served of events.yaml: itself, its types, and a page that needs nothing from elsewhere and no scripts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient

from contracts.asyncapi import DocumentError, EventsDocument, routes, types_in
from contracts.asyncapi.page import render_page
from matchday.wiring import CONTRACTS
from tests.contract.runtime.harness import document, operation, runtime_app, server_of

DOCUMENT = EventsDocument.load(CONTRACTS / "events.yaml")
Client = TestClient[Any, Any]


class Page(HTMLParser):
    """What a page links to, what can be linked to in it, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("href", "src", "srcset", "action", "style") or name.startswith("on"):
                self.links.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    contract = document({"/things": {"get": operation()}})
    app = runtime_app(contract, extra_routes=routes(DOCUMENT, base_path="/v1"))
    async with TestClient(server_of(app)) as client:
        yield client


@pytest.fixture
async def page(client: Client) -> Page:
    return Page(await (await client.get("/docs/events")).text())


async def test_the_document_and_its_types_are_served_as_they_are(client: Client) -> None:
    for path, text in (
        ("/v1/events.yaml", DOCUMENT.source.decode()),
        ("/v1/events.ts", types_in("typescript", DOCUMENT)),
        ("/v1/events.py", types_in("python", DOCUMENT)),
    ):
        answer = await client.get(path)
        assert (answer.status, await answer.text()) == (200, text)
        again = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
    answer = await client.get("/v1/events.json")
    assert answer.content_type == "application/json"
    assert await answer.json() == yaml.safe_load(DOCUMENT.source) == DOCUMENT.content


async def test_everything_of_the_document_is_on_the_page(page: Page) -> None:
    content = DOCUMENT.content
    wanted = {
        *(f"message-{key}" for key in DOCUMENT.messages),
        *(f"schema-{name}" for name in content["components"]["schemas"]),
        *(f"channel-{key}" for key in DOCUMENT.channels),
        *(f"operation-{name}" for name in content["operations"]),
    }
    assert wanted <= set(page.ids)
    for channel in DOCUMENT.channels.values():
        assert channel["address"] in page.text
    for schema in content["components"]["schemas"].values():
        for name in schema.get("properties", ()):
            assert name in page.text
    for message in DOCUMENT.messages.values():
        for example in message.examples:
            assert json.dumps(example["payload"], ensure_ascii=False, indent=2) in page.text
    for code in content["components"]["schemas"]["CloseCode"]["enum"]:
        assert str(code) in page.text
    assert "**" not in page.text  # Markdown was rendered
    assert "| ---" not in page.text


async def test_every_link_leads_somewhere_and_none_elsewhere(client: Client, page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert page.tags["script"] == page.tags["style"] == 0
    for link in set(page.links):
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert "//" not in link
            answer = await client.get(str(client.make_url("/docs/").join(type(client.make_url("/"))(link)).path))
            assert answer.status == 200, link


def changed(old: str, new: str) -> EventsDocument:
    source = DOCUMENT.source.decode()
    assert source.count(old) == 1
    return EventsDocument(source.replace(old, new).encode())


def test_html_in_a_description_is_text() -> None:
    document = changed(
        "An exact amount, as a decimal string.", "<script>alert(1)</script> **bold** [x](javascript:alert(1))"
    )
    page = Page(render_page(document, downloads=[]))
    assert page.tags["script"] == 0
    assert "<script>alert(1)</script> bold" in page.text
    assert not [link for link in page.links if link.startswith("javascript:")]


def test_a_document_that_cannot_be_told_is_not_served() -> None:
    document = changed("Money:\n      type: object\n", "Money:\n      patternProperties: {}\n      type: object\n")
    with pytest.raises(DocumentError, match=r"schemas/Money: types cannot tell patternProperties"):
        routes(document, base_path="/v1")
