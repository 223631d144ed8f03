"""What people, clients and forgers get wrong: each gets its exact answer, and nothing is written."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contracts import ids
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, TokenConfig
from matchday.browser import Form
from matchday.wiring import USER_SCOPES
from storage.db import Database
from tests.client import Client, refused
from tests.stack import Stack, only_written

DEPOSITS = "/v1/payments/deposits"
MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}


def body(amount: object = "500.00", **extra: object) -> dict[str, Any]:
    return {"amount": {"amount": amount, "currency": "INR"}, **extra}


def deposit(client: Client, document: object, *, key: str | None = None) -> requests.Response:
    """Ask for a deposit with any JSON, or with bytes as they are."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = JSON | ({"Idempotency-Key": secrets.token_urlsafe(24)} if key is None else {"Idempotency-Key": key})
    return client.request("POST", DEPOSITS, data=data, headers=headers)


# Amounts


@pytest.mark.parametrize(
    ("amount", "rules"),
    [
        ("0", ["pattern"]),
        ("-1", ["pattern"]),
        ("1e3", ["format", "pattern"]),
        ("10.005", ["pattern"]),
        ("١٠", ["format", "pattern"]),
        ("500,00", ["format", "pattern"]),
        (" 500", ["format", "pattern"]),
        ("200000.01", ["pattern"]),
        ("", ["format", "minLength", "pattern"]),
        ("1000000.00", ["maxLength", "pattern"]),
        (500, ["type"]),
        (500.0, ["type"]),
        (None, ["type"]),
        (["500.00"], ["type"]),
    ],
    ids=str,
)  # fmt: skip
def test_an_amount_that_is_none_opens_no_deposit(
    amount: object, rules: list[str], player: Client, stack: Stack
) -> None:
    with only_written(stack):
        response = deposit(player, body(amount))
    value = json.dumps(amount) if isinstance(amount, str) and len(amount) > 2 else ""
    refused(response, 400, "contract.body", *(("#/body/amount/amount", rule) for rule in rules), hidden=value)


def test_a_currency_that_nobody_holds_opens_no_deposit(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, {"amount": {"amount": "500.00", "currency": "EUR"}})
    refused(response, 400, "contract.body", ("#/body/amount/currency", "enum"), hidden="EUR")


# Bodies


def test_an_unknown_field_is_named(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, body(note="a-value-nobody-asked-for"))
    refused(response, 400, "contract.body", ("#/body/note", "unknown"), hidden="a-value-nobody-asked-for")


def test_every_fault_is_told_at_once(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, {"amount": {"amount": 7}, "tip": "1.00"}, key="short")
    refused(
        response, 400, "contract.body",
        ("#/body/amount/amount", "type"), ("#/body/amount/currency", "required"), ("#/body/tip", "unknown"),
        ("#/header/Idempotency-Key", "minLength"), ("#/header/Idempotency-Key", "pattern"),
    )  # fmt: skip


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_no_json(constant: str, player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, json.dumps(body("@")).replace('"@"', constant).encode())
    refused(response, 400, "contract.json", ("#/body/amount/amount", "json.nan"))


def test_a_key_that_occurs_twice_is_refused(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, b'{"amount":{"amount":"1.00","amount":"9.00","currency":"INR"}}')
    refused(response, 400, "contract.json", ("#/body/amount/amount", "json.duplicate_key"), hidden="9.00")


@pytest.mark.parametrize(
    ("raw", "rule"),
    [(b"", "required"), (b"{", "json.syntax"), (b'{"amount":\xff}', "json.encoding"), (b"[" * 5000, "json.depth")],
)  # fmt: skip
def test_what_is_no_json_is_refused(raw: bytes, rule: str, player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, raw)
    refused(response, 400, "contract.body" if rule == "required" else "contract.json", ("#/body", rule))


def test_a_body_with_countless_faults_gets_an_answer_of_bounded_length(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, body(**{f"field{number}": "\0" for number in range(1000)}))
    assert response.status_code == 400
    assert 0 < len(response.json()["errors"]) <= 100


def test_a_body_of_two_mebibytes_is_too_large_for_a_deposit(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, body(note="x" * 2 * MEBIBYTE))
    refused(response, 413, "contract.too_large")


def test_a_body_of_another_kind_is_not_read(player: Client, stack: Stack) -> None:
    with only_written(stack):
        headers = {"Content-Type": "text/plain", "Idempotency-Key": secrets.token_urlsafe(24)}
        response = player.request("POST", DEPOSITS, data=json.dumps(body()), headers=headers)
    refused(response, 415, "contract.media_type")


# Idempotency


def test_a_deposit_without_a_key_is_refused(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = player.request("POST", DEPOSITS, json=body())
    refused(response, 400, "contract.parameter", ("#/header/Idempotency-Key", "required"))


def test_a_key_that_is_too_short_is_refused(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = deposit(player, body(), key="fifteen-letters")
    fault = "#/header/Idempotency-Key"
    refused(response, 400, "contract.parameter", (fault, "minLength"), (fault, "pattern"), hidden="fifteen-letters")


def test_a_key_stands_for_one_amount(player: Client, stack: Stack) -> None:
    key = secrets.token_urlsafe(24)
    with only_written(stack, deposits=1, events=1, idempotency_keys=1):
        first = deposit(player, body("10.00"), key=key)
        other = deposit(player, body("10.01"), key=key)
        again = deposit(player, body("10.00"), key=key)
    assert first.status_code == again.status_code == 201
    assert again.json() == first.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    refused(other, 422, "idempotency.mismatch", hidden="10.0")


def test_twenty_taps_at_once_open_one_deposit(player: Client, stack: Stack) -> None:
    key = secrets.token_urlsafe(24)

    def tap(_: int) -> requests.Response:
        with stack.client(token=player.token) as finger:
            return deposit(finger, body("20.00"), key=key)

    with only_written(stack, deposits=1, events=1, idempotency_keys=1), ThreadPoolExecutor(20) as fingers:
        responses = list(fingers.map(tap, range(20)))
    opened = [response for response in responses if response.status_code == 201]
    late = [response for response in responses if response.status_code != 201]
    assert len({response.text for response in opened}) == 1, "a replay is the first answer to the letter"
    assert sum("Idempotent-Replayed" not in response.headers for response in opened) == 1
    for response in late:
        refused(response, 409, "idempotency.in_progress")
        assert int(response.headers["Retry-After"]) >= 1
    orders = player.control("GET", "/_sandbox/orders")
    assert [order["id"] for order in orders if order["receipt"] == opened[0].json()["deposit_id"]] == [
        opened[0].json()["gateway_order_id"]
    ]


# Identity


def access_tokens(stack: Stack, *keys: str) -> AccessTokens:
    """What signs as the stack does; it verifies nothing here, so its database is never asked."""
    config = TokenConfig(issuer=stack.api, audience=stack.api)
    return AccessTokens(keys, config=config, revocations=Revocations(Database(stack.config.database_url)))


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def encoded(document: dict[str, Any] | bytes) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def get_deposit_with(token: str, stack: Stack, paid: tuple[dict[str, Any], Form]) -> requests.Response:
    with stack.client(token=token) as client:
        return client.request("GET", f"{DEPOSITS}/{paid[0]['deposit_id']}")


def issued(stack: Stack, player: Client, key: str, *, minutes_ago: int) -> str:
    """A token for the player, good for a quarter of an hour, signed some time ago."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return access_tokens(stack, key).issue(
        user_id=claims_of(str(player.token))["sub"], session_id=ids.new("ses"), scopes=USER_SCOPES,
        at=at, until=at + timedelta(minutes=15),
    )  # fmt: skip


def test_a_token_signed_by_the_stack_is_good_while_it_lasts(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    token = issued(stack, player, stack.config.token_keys[0], minutes_ago=1)
    assert get_deposit_with(token, stack, paid).status_code == 200


def test_an_expired_token_opens_nothing(stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]) -> None:
    token = issued(stack, player, stack.config.token_keys[0], minutes_ago=60)
    with only_written(stack):
        response = get_deposit_with(token, stack, paid)
    refused(response, 401, "auth.expired", hidden=token)
    assert response.headers["WWW-Authenticate"].startswith('Bearer realm="')
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_a_token_that_says_it_needs_no_signature_opens_nothing(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    for algorithm in ("none", "None", "NONE"):
        header = {"alg": algorithm, "typ": "at+jwt"}
        token = f"{encoded(header)}.{encoded(claims_of(str(player.token)))}."
        refused(get_deposit_with(token, stack, paid), 401, "auth.invalid", hidden=token)


def test_a_token_signed_with_the_public_key_as_a_secret_opens_nothing(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    private = serialization.load_pem_private_key(stack.config.token_keys[0].encode(), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = str(player.token).split(".")[0]
    known = json.loads(base64.urlsafe_b64decode(header + "=="))
    signed = f"{encoded({**known, 'alg': 'HS256'})}.{encoded(claims_of(str(player.token)))}"
    token = f"{signed}.{encoded(hmac.digest(public, signed.encode(), sha256))}"
    refused(get_deposit_with(token, stack, paid), 401, "auth.invalid", hidden=token)


def test_a_token_signed_with_a_key_of_ones_own_opens_nothing(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    own = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    token = issued(stack, player, own.decode(), minutes_ago=1)
    refused(get_deposit_with(token, stack, paid), 401, "auth.invalid", hidden=token)


def test_a_token_whose_claims_were_changed_opens_nothing(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    header, _, signature = str(player.token).split(".")
    token = f"{header}.{encoded({**claims_of(str(player.token)), 'sub': ids.new('usr')})}.{signature}"
    refused(get_deposit_with(token, stack, paid), 401, "auth.invalid", hidden=token)


def test_nobody_in_particular_opens_nothing(stack: Stack, paid: tuple[dict[str, Any], Form]) -> None:
    with stack.client() as nobody, only_written(stack):
        refused(nobody.request("GET", f"{DEPOSITS}/{paid[0]['deposit_id']}"), 401, "auth.missing")
        refused(deposit(nobody, body()), 401, "auth.missing")


def test_a_deposit_of_somebody_else_is_unknown(stack: Stack, paid: tuple[dict[str, Any], Form]) -> None:
    with stack.client() as stranger:
        stranger.sign_up_and_in()
        with only_written(stack):
            theirs = stranger.request("GET", f"{DEPOSITS}/{paid[0]['deposit_id']}")
            nobodys = stranger.request("GET", f"{DEPOSITS}/{ids.new('dep')}")
    refused(theirs, 404, "deposit.unknown", hidden=paid[0]["deposit_id"])
    refused(nobodys, 404, "deposit.unknown")


def open_stream(stack: Stack, ticket: str) -> requests.Response:
    with stack.client() as browser:
        return browser.request("GET", "/v1/realtime/events", params={"ticket": ticket}, stream=True)


def test_a_ticket_opens_one_stream(player: Client, stack: Stack) -> None:
    ticket = player.call("POST", "/v1/realtime/tickets", expect=201)["ticket"]
    with open_stream(stack, ticket) as first:
        assert first.status_code == 200
    refused(open_stream(stack, ticket), 401, "auth.invalid", hidden=ticket)
    refused(open_stream(stack, "tkt_made-up"), 401, "auth.invalid", hidden="tkt_made-up")


def test_a_ticket_of_a_session_that_has_ended_opens_nothing(stack: Stack) -> None:
    with stack.client() as leaving:
        leaving.sign_up_and_in()
        ticket = leaving.call("POST", "/v1/realtime/tickets", expect=201)["ticket"]
        leaving.call("DELETE", "/v1/identity/sessions/current", expect=204)
        refused(leaving.request("GET", "/v1/identity/me"), 401, "auth.session_ended")
    with open_stream(stack, ticket) as response:
        refused(response, 401, "auth.invalid", hidden=ticket)


# HTTP itself


def test_a_request_line_longer_than_any_is_told_as_a_problem(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = player.request("GET", "/v1/wallet/entries", params={"cursor": "x" * 20_000})
    refused(response, 400, "contract.request")
