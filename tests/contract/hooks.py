"""What Schemathesis cannot make up: identities, ids of things that exist, codes from mails, signatures.

Everything comes from the stack's public behaviour, over HTTP: its API, its inbox, its sandbox; but who runs the fuzzer
has made the user, whom only staff can make a member of a channel. A case that is wrong on
purpose stays as wrong as it was made; a right one gets live data where made-up data could only be unknown. Every
fourth is left alone in that too, so that right requests about nothing are tried as well.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any
from zlib import crc32

import requests
import schemathesis
from requests.auth import AuthBase
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.generation.meta import TestPhase

from integrations.razorpay.sandbox.signing import sign_webhook
from tests.client import PASSWORD, Client

LEFT_ALONE = 4
SHORT_PATIENCE_S = 2.0
STATEMENT_TYPES = ("application/json", "text/csv", "application/pdf")


class World:
    """The live data of one run, each made when it is first wanted."""

    def __init__(self, environ: os._Environ[str]) -> None:
        self.client = Client(environ["FUZZ_API"], environ["FUZZ_SANDBOX"])
        self.email = environ["FUZZ_EMAIL"]
        self.desk = environ["FUZZ_CHANNEL"]  # of which that user is a member
        self.webhook_secret = environ["FUZZ_WEBHOOK_SECRET"]
        # sign-ups whose first code is old enough for another one
        self.aged_sign_ups = [name for name in environ["FUZZ_AGED_SIGN_UPS"].split(",") if name]
        self.begun: dict[str, str] = {}  # sign-up → address, of what the fuzzer itself began
        self.keys: dict[str, object] = {}  # idempotency key → body

    @cached_property
    def token(self) -> str:
        self.client.token = self.client.sign_in(self.email)
        return self.client.token

    @cached_property
    def user_id(self) -> str:
        return self.signed_in.user_id

    @cached_property
    def receiver(self) -> str:
        """Somebody to send money to, now that there is some."""
        self.signed_in.paid_deposit()
        with Client(self.client.api, self.client.sandbox) as other:
            other.sign_up_and_in()
            return other.user_id

    @cached_property
    def transfer(self) -> dict[str, Any]:
        return self.signed_in.transfer(self.receiver, "0.01")

    @cached_property
    def open_deposit(self) -> dict[str, Any]:
        return self.signed_in.start_deposit()

    @cached_property
    def returned(self) -> tuple[str, dict[str, str]]:
        """A checkout and the signed form that the gateway sent its browser back with."""
        deposit, form = self.signed_in.paid_deposit()
        return checkout_id(deposit), form.fields

    @cached_property
    def cursor(self) -> str:
        """The cursor of a second page of entries."""
        for _ in range(2):
            self.signed_in.paid_deposit()
        page = self.client.call("GET", "/v1/wallet/entries", expect=200, params={"limit": 1})
        return str(page["next_cursor"])

    @cached_property
    def stream_cursor(self) -> str:
        """Where the log stood, to poll from."""
        return str(self.signed_in.call("GET", "/v1/realtime/poll", expect=200)["cursor"])

    @cached_property
    def transaction_id(self) -> str:
        """A transaction that credited the user."""
        return str(self.signed_in.paid_deposit()[0]["ledger_transaction_id"])

    @property
    def signed_in(self) -> Client:
        assert self.token
        return self.client


def checkout_id(deposit: dict[str, Any]) -> str:
    return str(deposit["checkout_url"]).rsplit("/", 1)[1]


world = World(os.environ)


@schemathesis.auth(refresh_interval=None)
class Bearer:
    """One user for the whole run; whoever signs out does so from a session opened for it."""

    def get(self, case: Case, context: Any) -> str | None:
        if not case.operation.definition.raw.get("security"):
            return None
        return world.client.sign_in(world.email) if name_of(case) == "endSession" else world.token

    def set(self, case: Case, data: str, context: Any) -> None:
        case.headers = {**case.headers, "Authorization": f"Bearer {data}"}


class WebhookSignature(AuthBase):
    """Signs the very bytes that are sent, as the gateway does."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        request.headers["X-Razorpay-Signature"] = sign_webhook(world.webhook_secret, raw)
        return request


@schemathesis.hook
def before_call(context: Any, case: Case, kwargs: dict[str, Any]) -> None:
    """Give a case the live data that its operation needs."""
    name = name_of(case)
    if case.meta is None:
        return
    if name == "receiveRazorpayWebhook" and not case.meta.is_negative_at(ParameterLocation.HEADER):
        kwargs["auth"] = WebhookSignature()
    if case.meta.generation.mode.is_positive and name in LIVE:
        LIVE[name](case)


@schemathesis.hook
def after_call(context: Any, case: Case, response: Response) -> None:
    """Remember what the fuzzer began, so that it can go on with it."""
    if name_of(case) == "signUp" and response.status_code == 202:
        local, _, domain = case.body["email"].rpartition("@")
        world.begun[response.json()["sign_up_id"]] = f"{local}@{domain.lower()}"


def name_of(case: Case) -> str:
    return str(case.operation.definition.raw["operationId"])


def is_left_alone(case: Case) -> bool:
    """Whether this made-up case stays as it is: the same answer whenever the same case is tried."""
    return case.meta.phase.name is TestPhase.FUZZING and crc32(repr(case).encode()) % LEFT_ALONE == 0


def in_path(parameter: str, value: Callable[[], str]) -> Callable[[Case], None]:
    """Name something that exists, unless a step before has named it."""

    def fill(case: Case) -> None:
        if case.meta.phase.name is not TestPhase.STATEFUL and not is_left_alone(case):
            case.path_parameters = {**case.path_parameters, parameter: value()}

    return fill


def sign_up(case: Case) -> None:
    if not is_left_alone(case):
        case.body = {**case.body, "email": f"fuzz-{secrets.token_hex(6)}@example.com", "password": PASSWORD}


def verify_email(case: Case) -> None:
    sign_up_id = case.path_parameters["sign_up_id"]
    if sign_up_id not in world.begun:
        if is_left_alone(case):
            return
        begun = world.client.begin_sign_up()
        world.begun[begun.id] = begun.email
        case.path_parameters = {**case.path_parameters, "sign_up_id": begun.id}
        sign_up_id = begun.id
    with suppress(AssertionError):  # no mail, or no code in it
        case.body = {"code": world.client.code_for(world.begun[sign_up_id], within_s=SHORT_PATIENCE_S)}


def resend_code(case: Case) -> None:
    """There are few of these, and each serves once: half a minute has to go by before a code is sent again."""
    if world.aged_sign_ups and (case.meta.phase.name is not TestPhase.FUZZING or is_left_alone(case)):
        case.path_parameters = {**case.path_parameters, "sign_up_id": world.aged_sign_ups.pop()}


def create_session(case: Case) -> None:
    if not is_left_alone(case):
        case.body = {"email": world.email, "password": PASSWORD}


def with_cursor(case: Case) -> None:
    if "cursor" in case.query:
        case.query = {**case.query, "cursor": world.cursor}


def list_entries(case: Case) -> None:
    """Days in their order, and a cursor of ours."""
    with_cursor(case)
    if {"from", "to"} <= case.query.keys():
        case.query = {**case.query, "from": min(case.query["from"], case.query["to"])}


def get_statement(case: Case) -> None:
    """A month at the most, and each of the media types in turn."""
    with_cursor(case)
    case.query = {**case.query, "from": f"{case.query['to'][:8]}01"}
    media_type = STATEMENT_TYPES[crc32(repr(case).encode()) % len(STATEMENT_TYPES)]
    case.headers = {**case.headers, "Accept": media_type}


def with_own_key(case: Case) -> None:
    """A key that another body used is another one's: the contract refuses that, and rightly."""
    key = case.headers["Idempotency-Key"]
    if world.keys.setdefault(key, case.body) != case.body:
        case.headers = {**case.headers, "Idempotency-Key": secrets.token_urlsafe(24)}


def create_transfer(case: Case) -> None:
    if not is_left_alone(case):
        case.body = {**case.body, "to": world.receiver, "amount": {"amount": "0.01", "currency": "INR"}}
    with_own_key(case)


def return_from_checkout(case: Case) -> None:
    if not is_left_alone(case):
        checkout, fields = world.returned
        case.path_parameters = {**case.path_parameters, "checkout_id": checkout}
        case.body = {**case.body, **fields}


def stream_events(case: Case) -> None:
    if "channels" in case.query and not is_left_alone(case):
        case.query = {**case.query, "channels": f"user:{world.user_id},wallet:{world.user_id}"}


def poll_events(case: Case) -> None:
    """A cursor of ours: the poll waits, and ends early because streams are rotated after a moment."""
    stream_events(case)
    if "cursor" in case.query and not is_left_alone(case):
        case.query = {**case.query, "cursor": world.stream_cursor}


def get_presence(case: Case) -> None:
    if not is_left_alone(case):
        case.query = {**case.query, "channel": world.desk}


LIVE: dict[str, Callable[[Case], None]] = {
    "signUp": sign_up,
    "verifyEmail": verify_email,
    "resendCode": resend_code,
    "createSession": create_session,
    "listEntries": list_entries,
    "getStatement": get_statement,
    "listHolds": with_cursor,
    "getTransaction": in_path("transaction_id", lambda: world.transaction_id),
    "createTransfer": create_transfer,
    "getTransfer": in_path("transfer_id", lambda: world.transfer["transfer_id"]),
    "createDeposit": with_own_key,
    "getDeposit": in_path("deposit_id", lambda: world.open_deposit["deposit_id"]),
    "openCheckout": in_path("checkout_id", lambda: checkout_id(world.open_deposit)),
    "returnFromCheckout": return_from_checkout,
    "showCheckoutResult": in_path("checkout_id", lambda: checkout_id(world.open_deposit)),
    "streamEvents": stream_events,
    "pollEvents": poll_events,
    "getPresence": get_presence,
}
