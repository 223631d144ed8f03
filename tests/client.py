"""A person with a browser and a mailbox: the API over HTTP and nothing else. Calls block."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import requests

from matchday.browser import Form, Page

PASSWORD = "seven green shuttles over Pune"
CALL_TIMEOUT_S = 15.0
PATIENCE_S = 20.0
POLL_S = 0.02

T = TypeVar("T")
Fault = tuple[str, str]


def reached(look: Callable[[], T], *, what: str, within_s: float = PATIENCE_S, every_s: float = POLL_S) -> T:
    """Return what is found as soon as there is something; fail at the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not reached in {within_s:.0f} s: {what}"
        time.sleep(every_s)
    return found


def refused(response: requests.Response, status: int, code: str, *faults: Fault, hidden: str = "") -> None:
    """Hold an answer to being this very problem, which quotes nothing of what is `hidden`."""
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"].endswith(f"/problems/{code}")
    assert problem["instance"] == f"urn:request:{response.headers['X-Request-ID']}"
    assert sorted((fault["pointer"], fault["rule"]) for fault in problem.get("errors", [])) == sorted(faults)
    assert not hidden or hidden not in response.text


@dataclass(frozen=True, slots=True)
class SignUp:
    """A sign-up that waits for its code."""

    id: str
    email: str


class Client:
    """One person against one stack. Close it, or use it in a `with` block."""

    def __init__(self, api: str, sandbox: str, *, token: str | None = None) -> None:
        self.api = api
        self.sandbox = sandbox
        self.token = token
        self._session = requests.Session()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Call the API with the token, if there is one; any answer is returned, redirects too."""
        headers = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **arguments.pop("headers", {})}
        return self._session.request(
            method, f"{self.api}{path}", headers=headers, allow_redirects=False, timeout=CALL_TIMEOUT_S, **arguments
        )

    def call(self, method: str, path: str, *, expect: int, **arguments: Any) -> Any:
        """Call the API and return the JSON of an answer with the expected status."""
        response = self.request(method, path, **arguments)
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None

    def begin_sign_up(self, email: str | None = None) -> SignUp:
        email = email or f"player-{secrets.token_hex(6)}@example.com"
        body = {"email": email, "password": PASSWORD, "display_name": "Smash"}
        return SignUp(self.call("POST", "/v1/identity/sign-ups", expect=202, json=body)["sign_up_id"], email)

    def code_for(self, email: str, *, within_s: float = PATIENCE_S) -> str:
        """The code of the newest mail to an address, once it is there."""
        mail = reached(lambda: self.inbox(email), what="a mail", within_s=within_s)[0]
        found = re.search(r"\b[0-9]{6}\b", mail["text"])
        assert found is not None, "a mail without a code"
        return found[0]

    def sign_up(self) -> str:
        """Become a user with a fresh address; return the address."""
        begun = self.begin_sign_up()
        path = f"/v1/identity/sign-ups/{begun.id}/verification"
        self.call("POST", path, expect=201, json={"code": self.code_for(begun.email)})
        return begun.email

    def sign_in(self, email: str) -> str:
        """Open a session and return its token; the client itself goes on with the token it has."""
        body = {"email": email, "password": PASSWORD}
        token: str = self.call("POST", "/v1/identity/sessions", expect=201, json=body)["access_token"]
        return token

    def sign_up_and_in(self) -> str:
        """Become a user and act as that user from here on; return the token."""
        self.token = self.sign_in(self.sign_up())
        return self.token

    def start_deposit(self, amount: str = "500.00") -> dict[str, Any]:
        body = {"amount": {"amount": amount, "currency": "INR"}}
        headers = {"Idempotency-Key": secrets.token_urlsafe(24)}
        deposit: dict[str, Any] = self.call("POST", "/v1/payments/deposits", expect=201, json=body, headers=headers)
        return deposit

    @property
    def user_id(self) -> str:
        return str(self.call("GET", "/v1/identity/me", expect=200)["user_id"])

    def transfer(self, to: str, amount: str = "100.00") -> dict[str, Any]:
        """Send money to another user's wallet."""
        body = {"to": to, "amount": {"amount": amount, "currency": "INR"}}
        headers = {"Idempotency-Key": secrets.token_urlsafe(24)}
        made: dict[str, Any] = self.call("POST", "/v1/wallet/transfers", expect=201, json=body, headers=headers)
        return made

    def pay(self, deposit: dict[str, Any], *, action: str = "pay") -> Form:
        """Pay, or fail to, on the hosted page; return the signed form with which the browser is sent back."""
        hosted = self._submit(self._open(deposit["checkout_url"]).form())
        return self._submit(hosted.form(), action=action).form()

    def paid_deposit(self, amount: str = "500.00") -> tuple[dict[str, Any], Form]:
        """A deposit that the wallet was credited with, and the form that the browser came back with."""
        deposit = self.start_deposit(amount)
        form = self.pay(deposit)
        path = f"/v1/payments/deposits/{deposit['deposit_id']}"

        def paid() -> dict[str, Any] | None:
            now: dict[str, Any] = self.call("GET", path, expect=200)
            return now if now["state"] == "paid" else None

        return reached(paid, what="a paid deposit"), form

    def inbox(self, to: str) -> list[dict[str, Any]]:
        """Mails to an address, the newest first."""
        return self.control("GET", "/_sandbox/inbox", params={"to": to})

    def control(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the control API of the vendors' sandbox."""
        response = self._session.request(method, f"{self.sandbox}{path}", timeout=CALL_TIMEOUT_S, **arguments)
        response.raise_for_status()
        document = response.json()
        return document.get("items", document)

    def _open(self, url: str) -> Page:
        return _page(self._session.get(url, timeout=CALL_TIMEOUT_S))

    def _submit(self, form: Form, **button: str) -> Page:
        return _page(self._session.post(form.action, data={**form.fields, **button}, timeout=CALL_TIMEOUT_S))


def _page(response: requests.Response) -> Page:
    return Page(response.url, response.status_code, response.text)
