"""The two pages a payer's browser passes through on our side. No card field, no foreign script."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import urlsplit

from aiohttp import web
from jinja2 import Environment, PackageLoader, select_autoescape

from handlers.payments.rules import Deposit

SUBMIT = "document.forms[0].submit()"

_pages = Environment(loader=PackageLoader(__package__), autoescape=select_autoescape(), trim_blocks=True)
_SUBMIT_HASH = base64.b64encode(hashlib.sha256(SUBMIT.encode()).digest()).decode()


def checkout(deposit: Deposit) -> web.Response:
    """The form that takes the browser to the gateway's page."""
    assert deposit.checkout_form is not None
    target = urlsplit(deposit.checkout_form["url"])
    policy = f"form-action {target.scheme}://{target.netloc}; script-src 'sha256-{_SUBMIT_HASH}'"
    return _page("checkout.html", policy, deposit=deposit, form=deposit.checkout_form, script=SUBMIT)


def result(deposit: Deposit) -> web.Response:
    """How the payment stands; asks again by itself until it is paid."""
    return _page("result.html", "form-action 'none'", deposit=deposit)


def _page(template: str, policy: str, **context: object) -> web.Response:
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; {policy}; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
    }
    return web.Response(text=_pages.get_template(template).render(**context), content_type="text/html", headers=headers)
