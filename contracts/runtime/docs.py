"""Served contracts and documentation pages: prepared bytes, strong validators, nothing from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import orjson
import swagger_ui_bundle
from aiohttp import hdrs, web

from contracts.runtime.loading import METHODS, Contract
from contracts.runtime.options import RuntimeOptions
from contracts.runtime.responses import accepts_gzip, compress
from contracts.runtime.specs import combined_document, public_document, shared_prefix

_STATIC = files("contracts.runtime") / "static"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OWN_ASSETS = {"docs.css": "text/css", "docs.js": "text/javascript"}
_SWAGGER_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


class Representation:
    """One prepared document with its gzip variant; each variant has an entity tag of its own (RFC 9110 8.8.3)."""

    def __init__(self, data: bytes, content_type: str, *, max_age_s: int = 0, page: bool = False) -> None:
        self._data = data
        digest = hashlib.sha256(data).hexdigest()[:32]
        self._tags = {False: f'"{digest}"', True: f'"{digest}-gzip"'}
        self._headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CACHE_CONTROL: f"public, max-age={max_age_s}" if max_age_s else "no-cache",
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        if page:
            self._headers["Content-Security-Policy"] = _PAGE_POLICY

    @cached_property
    def _gzipped(self) -> bytes:
        return compress(self._data)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer GET and HEAD, conditional or not."""
        zipped = accepts_gzip(request)
        headers = {**self._headers, hdrs.ETAG: self._tags[zipped]}
        known = request.headers.get(hdrs.IF_NONE_MATCH)
        if known is not None and self._matches(known):
            del headers[hdrs.CONTENT_TYPE]
            return web.Response(status=304, headers=headers)
        if zipped:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            return web.Response(body=self._gzipped, headers=headers)
        return web.Response(body=self._data, headers=headers)

    def _matches(self, known: str) -> bool:
        """Weak comparison, as If-None-Match asks for (RFC 9110 section 13.1.2)."""
        given = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        return "*" in given or not given.isdisjoint(self._tags.values())


def add_documentation(app: web.Application, contracts: Sequence[Contract], options: RuntimeOptions) -> None:
    """Add every contract as JSON and as a page, all of them as one JSON document, and the index at `/`."""
    _add(app, "/", _page(_index(contracts, options)))
    documents = [public_document(contract) for contract in contracts]
    _add(app, f"{shared_prefix(contracts)}/openapi.json", _json(combined_document(contracts, documents, options)))
    for contract, document in zip(contracts, documents, strict=True):
        _add(app, f"{contract.base_path}/openapi.json", _json(document))
        _add(app, f"/docs/{contract.name}", _page(_reference(contract)))
    for name, content_type in _OWN_ASSETS.items():
        _add(app, f"/docs/assets/{name}", Representation((_STATIC / name).read_bytes(), content_type, max_age_s=3600))
    for name, content_type in _SWAGGER_ASSETS.items():
        data = (swagger_ui_bundle.swagger_ui_path / name).read_bytes()
        _add(app, f"/docs/assets/{name}", Representation(data, content_type, max_age_s=86400))


def _add(app: web.Application, path: str, representation: Representation) -> None:
    app.router.add_get(path, representation.handle)


def _json(document: Mapping[str, Any]) -> Representation:
    return Representation(orjson.dumps(document), "application/json")


def _page(text: str) -> Representation:
    return Representation(text.encode(), "text/html; charset=utf-8", page=True)


def _template(name: str) -> Template:
    return Template((_STATIC / name).read_text(encoding="utf-8"))


def _reference(contract: Contract) -> str:
    """The Swagger UI page of one contract; links are relative, so that it works behind a path prefix."""
    return _template("reference.html").substitute(
        title=escape(contract.document["info"]["title"]), document=escape(f"..{contract.base_path}/openapi.json")
    )


def _index(contracts: Sequence[Contract], options: RuntimeOptions) -> str:
    links = "".join(f'<a href="{escape(url)}">{escape(text)}</a>' for text, url in options.links)
    count = sum(1 for contract in contracts for _ in contract.operations())
    return _template("index.html").substitute(
        title=escape(options.title),
        description=escape(options.description),
        version=escape(options.version),
        contracts=str(len(contracts)),
        operations=str(count),
        combined=escape(f"{shared_prefix(contracts).lstrip('/')}/openapi.json".lstrip("/")),
        links=f"<nav>{links}</nav>" if links else "",
        cards="\n".join(_card(contract) for contract in contracts),
    )


def _card(contract: Contract) -> str:
    info = contract.document["info"]
    summary = str(info.get("description", "")).strip().partition("\n\n")[0].replace("\n", " ")
    methods = [method for method, _path, _operation in contract.operations()]
    counts = "".join(
        f'<span class="method {method}">{method.upper()} {methods.count(method)}</span>'
        for method in METHODS
        if method in methods
    )
    return _template("card.html").substitute(
        name=escape(contract.name),
        title=escape(info["title"]),
        version=escape(info["version"]),
        summary=escape(summary),
        base_path=escape(contract.base_path),
        operations=str(len(methods)),
        methods=counts,
        docs=escape(f"docs/{contract.name}"),
        document=escape(f"{contract.base_path.lstrip('/')}/openapi.json"),
    )
