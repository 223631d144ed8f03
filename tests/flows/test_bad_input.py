"""What people, clients and forgers get wrong: each gets its exact answer, and nothing is written."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from integrations.razorpay.sandbox.signing import sign_webhook
from matchday.browser import Form
from matchday.wiring import USER_SCOPES
from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.client import Client, reached
from tests.stack import Stack, running

DEPOSITS = "/v1/payments/deposits"
WEBHOOK = "/v1/webhooks/razorpay"
MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}
AT_REST = """
    SELECT (SELECT count(*) FROM inbox WHERE state = 'received') + (SELECT count(*) FROM outbox)
         + (SELECT count(*) FROM idempotency_keys WHERE status IS NULL)
"""
WRITTEN = """
    SELECT (SELECT count(*) FROM deposits), (SELECT count(*) FROM inbox), (SELECT count(*) FROM ledger.transactions),
           (SELECT count(*) FROM ledger.entries), (SELECT count(*) FROM outbox) + (SELECT count(*) FROM event_log),
           (SELECT count(*) FROM idempotency_keys)
"""
TABLES = ("deposits", "inbox", "transactions", "entries", "events", "idempotency_keys")
Fault = tuple[str, str]


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with running(postgres, valkey, tmp_path_factory.mktemp("bad_input")) as stack:
        yield stack


@pytest.fixture(scope="module")
def player(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        client.sign_up_and_in()
        yield client


@pytest.fixture(scope="module")
def paid(player: Client) -> tuple[dict[str, Any], Form]:
    """A deposit of the player's that was paid, and the form that the browser came back with."""
    return player.paid_deposit("500.00")


@contextmanager
def only_written(stack: Stack, **rows: int) -> Iterator[None]:
    """Hold a block to having written these rows and no other."""
    before = _written(stack)
    yield
    after = _written(stack)
    assert {table: after[table] - before[table] for table in TABLES} == {**dict.fromkeys(TABLES, 0), **rows}


def _written(stack: Stack) -> dict[str, Any]:
    with stack.client() as client:
        reached(
            lambda: (
                all(event["state"] == "delivered" for event in client.control("GET", "/_sandbox/events"))
                and stack.row(AT_REST) == (0,)
            ),
            what="a stack at rest",
        )
    return dict(zip(TABLES, stack.row(WRITTEN), strict=True))


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


def body(amount: object = "500.00", **extra: object) -> dict[str, Any]:
    return {"amount": {"amount": amount, "currency": "INR"}, **extra}


def deposit(client: Client, document: object, *, key: str | None = None) -> requests.Response:
    """Ask for a deposit with any JSON, or with bytes as they are."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = JSON | ({"Idempotency-Key": secrets.token_urlsafe(24)} if key is None else {"Idempotency-Key": key})
    return client.request("POST", DEPOSITS, data=data, headers=headers)


def webhook(
    stack: Stack, raw: bytes, *, event_id: str | None = None, signature: str | None = None
) -> requests.Response:
    """Deliver bytes as the gateway does, rightly signed unless told otherwise."""
    secret = stack.config.razorpay_webhook_secrets[0]
    headers = JSON | {
        "X-Razorpay-Signature": signature or sign_webhook(secret, raw),
        "x-razorpay-event-id": event_id or secrets.token_hex(7),
    }
    with stack.client() as gateway:
        return gateway.request("POST", WEBHOOK, data=raw, headers=headers)


def captured(payment_id: str, order_id: str) -> bytes:
    entity = {"id": payment_id, "order_id": order_id, "status": "captured", "amount": 50000, "currency": "INR"}
    event = {
        "entity": "event", "event": "payment.captured", "payload": {"payment": {"entity": entity}},
        "created_at": 1700000060,
    }  # fmt: skip
    return json.dumps(event).encode()


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
    assert len({response.text for response in opened}) == 1
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


# Webhooks


def test_a_webhook_with_a_wrong_signature_is_not_stored(stack: Stack) -> None:
    raw = captured("pay_SbxPay00000001", "order_SbxOrd00000001")
    forged = [
        "0" * 64,
        sign_webhook("a secret of somebody else", raw),
        sign_webhook(stack.config.razorpay_webhook_secrets[0], raw + b" "),
        sign_webhook(stack.config.razorpay_key_secret, raw),
    ]
    with only_written(stack):
        for signature in forged:
            response = webhook(stack, raw, signature=signature)
            refused(response, 401, "webhook.unsigned", hidden=signature)
            assert response.headers["WWW-Authenticate"] == 'HMAC realm="razorpay"'


@pytest.mark.parametrize(
    ("header", "value", "rules"),
    [
        ("X-Razorpay-Signature", None, ["required"]),
        ("X-Razorpay-Signature", "abc", ["minLength", "pattern"]),
        ("x-razorpay-event-id", None, ["required"]),
        ("x-razorpay-event-id", "a b", ["pattern"]),
        ("x-razorpay-event-id", "x" * 101, ["maxLength", "pattern"]),
    ],
)
def test_a_webhook_without_its_headers_is_not_stored(
    header: str, value: str | None, rules: list[str], stack: Stack
) -> None:
    raw = captured("pay_SbxPay00000001", "order_SbxOrd00000001")
    signature = sign_webhook(stack.config.razorpay_webhook_secrets[0], raw)
    headers: dict[str, str | None] = {"X-Razorpay-Signature": signature, "x-razorpay-event-id": "SbxEvt00000001"}
    with stack.client() as gateway, only_written(stack):
        response = gateway.request("POST", WEBHOOK, data=raw, headers={**JSON, **headers, header: value})
    refused(response, 400, "contract.parameter", *((f"#/header/{header}", rule) for rule in rules))


def test_a_replayed_webhook_is_known_and_credits_once(
    stack: Stack, player: Client, paid: tuple[dict[str, Any], Form]
) -> None:
    order_id, payment_id = paid[0]["gateway_order_id"], paid[0]["gateway_payment_id"]
    events = player.control("GET", "/_sandbox/events")
    delivered = next(e for e in events if (e["name"], e["entity_id"]) == ("payment.captured", payment_id))
    balance = player.call("GET", "/v1/wallet/balance", expect=200)
    with only_written(stack):
        for _ in range(3):
            response = webhook(stack, captured(payment_id, order_id), event_id=delivered["id"])
            assert (response.status_code, response.json()) == (200, {"receipt": "duplicate"})
    with only_written(stack, inbox=1):  # an event of its own about the same payment is new, and changes nothing
        response = webhook(stack, captured(payment_id, order_id))
        assert (response.status_code, response.json()) == (200, {"receipt": "accepted"})
    assert player.call("GET", "/v1/wallet/balance", expect=200) == balance


def test_a_webhook_of_a_kind_we_have_no_use_for_is_taken_and_ignored(stack: Stack) -> None:
    raw = json.dumps({"entity": "event", "event": "subscription.charged", "payload": {}}).encode()
    with only_written(stack, inbox=1):
        response = webhook(stack, raw, event_id="IgnoredEvent01")
        again = webhook(stack, raw, event_id="IgnoredEvent01")
    assert (response.status_code, response.json()) == (200, {"receipt": "ignored"})
    assert (again.status_code, again.json()) == (200, {"receipt": "ignored"})
    assert stack.row("SELECT state FROM inbox WHERE event_key = %s", "IgnoredEvent01") == ("ignored",)


@pytest.mark.parametrize(
    "raw",
    [
        captured("pay_SbxPay00000001", "order_SbxOrd00000001").replace(b"50000", b"NaN"),
        captured("pay_SbxPay00000001", "order_SbxOrd00000001").replace(b"1700000060", b"Infinity"),
        b"not JSON", b"[]", b"{}", b'{"event":"payment.captured"}', b'{"event":7}',
    ],
)  # fmt: skip
def test_a_signed_webhook_that_cannot_be_read_is_refused(raw: bytes, stack: Stack) -> None:
    with only_written(stack):
        response = webhook(stack, raw)
    refused(response, 400, "webhook.malformed")


def test_a_webhook_of_two_mebibytes_is_too_large(stack: Stack) -> None:
    raw = json.dumps({"event": "payment.captured", "padding": "x" * 2 * MEBIBYTE}).encode()
    with only_written(stack):
        response = webhook(stack, raw)
    refused(response, 413, "contract.too_large")


# The browser's way back


def test_a_checkout_that_nobody_opened_is_unknown(stack: Stack) -> None:
    path = f"/v1/payments/checkouts/{ids.new('chk')}"
    with stack.client() as browser, only_written(stack):
        refused(browser.request("GET", path), 404, "checkout.unknown")
        refused(browser.request("GET", f"{path}/result"), 404, "checkout.unknown")
        refused(browser.request("POST", f"{path}/return", data={"razorpay_payment_id": "x"}), 404, "checkout.unknown")


def return_path(deposited: dict[str, Any]) -> str:
    return "/v1/payments/checkouts/" + str(deposited["checkout_url"]).rsplit("/", 1)[1] + "/return"


@pytest.mark.parametrize(
    "form",
    [
        {"razorpay_payment_id": "pay_SbxPay00000001", "razorpay_order_id": "order_SbxOrd00000001"},
        {"razorpay_payment_id": "pay_SbxPay00000001", "razorpay_signature": "0" * 64},
        {"razorpay_payment_id": "pay_SbxPay00000001", "razorpay_signature": ""},
        {"hello": "world"},
    ],
)
def test_a_return_that_the_gateway_did_not_sign_is_refused(form: dict[str, str], player: Client, stack: Stack) -> None:
    opened = player.start_deposit()
    with stack.client() as browser, only_written(stack):
        response = browser.request("POST", return_path(opened), data=form)
    refused(response, 422, "payments.return_unsigned", hidden="pay_SbxPay00000001")


def test_a_return_signed_for_another_order_is_refused(
    player: Client, stack: Stack, paid: tuple[dict[str, Any], Form]
) -> None:
    opened = player.start_deposit()
    fields = paid[1].fields
    for form in (fields, {**fields, "razorpay_order_id": opened["gateway_order_id"]}):
        with stack.client() as browser, only_written(stack):
            response = browser.request("POST", return_path(opened), data=form)
        refused(response, 422, "payments.return_unsigned", hidden=fields["razorpay_signature"])


def test_a_failure_that_only_the_browser_tells_of_changes_nothing(player: Client, stack: Stack) -> None:
    opened = player.start_deposit()
    metadata = {"payment_id": "pay_SbxPay00000001", "order_id": opened["gateway_order_id"]}
    form = {"error[code]": "BAD_REQUEST_ERROR", "error[metadata]": json.dumps(metadata)}
    with stack.client() as browser, only_written(stack):
        response = browser.request("POST", return_path(opened), data=form)
    result = return_path(opened).removesuffix("return") + "result"
    assert (response.status_code, response.headers["Location"]) == (303, result)
    assert player.call("GET", f"{DEPOSITS}/{opened['deposit_id']}", expect=200) == opened


def test_a_return_that_is_no_form_is_refused(player: Client, stack: Stack) -> None:
    opened = player.start_deposit()
    too_many = "&".join(f"field{number}=x" for number in range(101))
    with stack.client() as browser, only_written(stack):
        for raw in (b"razorpay_payment_id=\xff", b"%FF=x", too_many.encode()):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = browser.request("POST", return_path(opened), data=raw, headers=headers)
            refused(response, 400, "payments.return_malformed")


# HTTP itself


def test_a_request_line_longer_than_any_is_told_as_a_problem(player: Client, stack: Stack) -> None:
    with only_written(stack):
        response = player.request("GET", "/v1/wallet/entries", params={"cursor": "x" * 20_000})
    refused(response, 400, "contract.request")
