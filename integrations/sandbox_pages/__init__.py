"""The look of the sandbox's pages: one layout, one style sheet, no external URL, no need for JavaScript."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

# Scripts and styles come from our own files only. A form may lead anywhere: checkout returns to merchants.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads somewhere."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Action:
    """A cell with a button that posts to `href`."""

    text: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of the overview page. Cells are text, numbers, None, Link or Action."""

    title: str
    link: Link
    columns: tuple[str, ...]
    rows: list[list[Any]]
    empty: str


def rupees(paise: int) -> str:
    """Return an amount as people in India write it: ₹12,34,567.50."""
    whole, rest = divmod(paise, 100)
    head, tail = str(whole)[:-3], str(whole)[-3:]
    groups = [tail]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return f"₹{','.join(groups)}.{rest:02d}"


class Pages:
    """The templates of one package, on top of the shared layout."""

    def __init__(self, package: str | None) -> None:
        loaders = [PackageLoader(name) for name in (package, __name__) if name is not None]
        self._templates = Environment(
            loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.filters["rupees"] = rupees
        self._templates.tests["link"] = lambda cell: isinstance(cell, Link)
        self._templates.tests["action"] = lambda cell: isinstance(cell, Action)

    def render(self, template: str, *, status: int = 200, **context: Any) -> web.Response:
        """Return a page."""
        html = self._templates.get_template(template).render(context)
        return web.Response(status=status, text=html, content_type="text/html", headers=_HEADERS)


def setup(app: web.Application) -> None:
    """Serve the style sheet and the one script."""
    app.router.add_static("/_sandbox/static", Path(__file__).with_name("static"))
