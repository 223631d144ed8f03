"""What is served of a document: itself, its types and its page, as prepared bytes with an ETag."""

from __future__ import annotations

from importlib.resources import files

import orjson
from aiohttp import web

from contracts.asyncapi.document import EventsDocument
from contracts.asyncapi.emit import types_in
from contracts.asyncapi.page import render_page
from contracts.runtime.docs import Representation

PAGE = "/docs/events"
_TEXT = "text/plain; charset=utf-8"


def routes(document: EventsDocument, *, base_path: str) -> list[web.RouteDef]:
    """Routes for `create_api`: `<base_path>/events.yaml`, `.json`, `.ts`, `.py`, and the page at /docs/events.

    Raises DocumentError for a document that cannot be told.
    """
    files_ = {
        "yaml": Representation(document.source, "application/yaml"),
        "json": Representation(orjson.dumps(document.content), "application/json"),
        "ts": Representation(types_in("typescript", document).encode(), _TEXT),
        "py": Representation(types_in("python", document).encode(), _TEXT),
    }
    downloads = [(f"events.{suffix}", f"..{base_path}/events.{suffix}") for suffix in files_]
    html = render_page(document, downloads=downloads).encode()
    css = (files("contracts.asyncapi") / "templates" / "events.css").read_bytes()
    return [
        *(web.get(f"{base_path}/events.{suffix}", served.handle) for suffix, served in files_.items()),
        web.get(PAGE, Representation(html, "text/html; charset=utf-8", page=True).handle),
        web.get("/docs/assets/events.css", Representation(css, "text/css", max_age_s=3600).handle),
    ]
