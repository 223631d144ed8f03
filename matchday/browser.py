"""Just enough of a browser for the demo: fetch a page, find its form, press a button."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import aiohttp


@dataclass(slots=True)
class Form:
    """The first form of a page. `fields` are what a submit sends, without any button."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was received."""

    url: str
    status: int
    text: str

    def form(self) -> Form:
        """The page's first form. Raises ValueError when there is none."""
        parser = _FormParser()
        parser.feed(self.text)
        if parser.form is None:
            raise ValueError(f"no form on {self.url} (status {self.status})")
        return Form(urljoin(self.url, parser.form.action or self.url), parser.form.fields)


class Browser:
    """Follows redirects and submits forms; has no scripts, so it presses the button that a page offers without them."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def open(self, url: str) -> Page:
        async with self._session.get(url) as response:
            return Page(str(response.url), response.status, await response.text())

    async def submit(self, page: Page, **button: str) -> Page:
        """Submit the page's form, with the name and value of the button that is pressed."""
        form = page.form()
        async with self._session.post(form.action, data={**form.fields, **button}) as response:
            return Page(str(response.url), response.status, await response.text())


class _FormParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.form: Form | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and self.form is None:
            self.form = Form(values.get("action", ""))
            self._inside = True
        elif tag == "input" and self._inside and self.form is not None and "name" in values:
            chosen = values.get("type") not in ("radio", "checkbox") or "checked" in values
            if chosen:
                self.form.fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
