"""The realtime console: a page that opens both streams of one user and shows what comes, for a first look at them.

A client like any other: it knows contracts/realtime.yaml and contracts/events.yaml, and nothing else of this product.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template

from aiohttp import web

from contracts.runtime.docs import Representation

_FILES = files(__package__) / "templates"
_ASSETS = {"console.css": "text/css", "console.js": "text/javascript"}


def routes(event_types: Iterable[str]) -> list[web.RouteDef]:
    """The page at `/realtime/console`, its style sheet and its script; all links are relative.

    `event_types` are what an EventSource has to be told to listen for.
    """
    template = Template((_FILES / "console.html").read_text("utf-8"))
    html = template.substitute(event_types=escape(" ".join(event_types)))
    page = Representation(html.encode(), "text/html; charset=utf-8", page=True)
    assets = {name: Representation((_FILES / name).read_bytes(), kind) for name, kind in _ASSETS.items()}
    return [
        web.get("/realtime/console", page.handle),
        *(web.get(f"/realtime/{name}", asset.handle) for name, asset in assets.items()),
    ]
