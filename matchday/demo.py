"""`matchday demo`: a person with a browser and a phone, from sign-up to a paid deposit, over HTTP only."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from matchday.browser import Browser
from matchday.home import Addresses

AMOUNT = "500.00"
PATIENCE_S = 30.0
POLL_S = 0.1


class NotAsItShouldBe(Exception):
    """A step did not end as it should."""


@dataclass(slots=True)
class Narrator:
    """Prints a line for each step, and what is being waited for."""

    write: Callable[[str], object] = sys.stdout.write
    live: bool = field(default_factory=sys.stdout.isatty)
    step: int = 0
    began: float = field(default_factory=time.monotonic)

    @asynccontextmanager
    async def telling(self, title: str) -> AsyncIterator[list[str]]:
        """One step: its title, what it found, and how long it took. What is added to the list is printed."""
        self.step += 1
        begin = time.monotonic()
        notes: list[str] = []
        waiting = asyncio.create_task(self._wait(title, begin))
        try:
            yield notes
        except BaseException as fault:
            waiting.cancel()
            self._line(f"✗ {self.step:2} {title}: {str(fault) or type(fault).__name__}")
            raise
        waiting.cancel()
        took = f"{(time.monotonic() - begin) * 1000:7.0f} ms"
        self._line(f"✓ {self.step:2} {title:46} {took}   {'  '.join(notes)}".rstrip())

    async def _wait(self, title: str, begin: float) -> None:
        while True:
            await asyncio.sleep(1)
            waited = f"… {self.step:2} {title}: waiting, {time.monotonic() - begin:.0f} s"
            self._clear()
            self.write(waited if self.live else f"{waited}\n")
            if self.live:
                sys.stdout.flush()

    def _line(self, text: str) -> None:
        self._clear()
        self.write(f"{text}\n")

    def _clear(self) -> None:
        if self.live:
            self.write("\r\x1b[2K")


class Person:
    """Somebody who uses the API with a browser and a mail box."""

    def __init__(self, session: aiohttp.ClientSession, addresses: Addresses) -> None:
        self._session = session
        self._browser = Browser(session)
        self.addresses = addresses
        self.email = f"player-{secrets.token_hex(4)}@example.com"
        self.password = secrets.token_urlsafe(18)
        self.token: str | None = None

    async def call(self, method: str, path: str, *, expect: int, body: Any = None, **headers: str) -> Any:
        """Call the API and return the JSON. Raises NotAsItShouldBe for another status than expected."""
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        url = f"{self.addresses.api}{path}"
        async with self._session.request(method, url, json=body, headers=headers) as response:
            text = await response.text()
            if response.status != expect:
                raise NotAsItShouldBe(f"{method} {path} answered {response.status} instead of {expect}: {text[:500]}")
            return json.loads(text) if text else None

    async def sandbox(self, method: str, path: str, body: Any = None) -> Any:
        """Call the sandbox's control API."""
        async with self._session.request(method, f"{self.addresses.sandbox}{path}", json=body) as response:
            if response.status >= 300:
                raise NotAsItShouldBe(f"sandbox {method} {path} answered {response.status}")
            document = await response.json()
            return document.get("items", document)

    async def sign_up(self) -> str:
        """Begin a sign-up; return its id."""
        body = {"email": self.email, "password": self.password, "display_name": "Demo player"}
        begun = await self.call("POST", "/v1/identity/sign-ups", expect=202, body=body)
        return str(begun["sign_up_id"])

    async def verify_email(self, sign_up_id: str) -> tuple[str, str]:
        """Find the code in the inbox and send it; return the code and the user's id."""

        async def mails() -> Any:
            return await self.sandbox("GET", f"/_sandbox/inbox?to={self.email}")

        mail = (await until("the mail", mails))[0]
        code = re.findall(r"\b[0-9]{6}\b", mail["text"])[0]
        path = f"/v1/identity/sign-ups/{sign_up_id}/verification"
        verified = await self.call("POST", path, expect=201, body={"code": code})
        return code, verified["user"]["user_id"]

    async def sign_in(self) -> str:
        """Get a token; return the session's id."""
        self.token = None
        credentials = {"email": self.email, "password": self.password}
        signed_in = await self.call("POST", "/v1/identity/sessions", expect=201, body=credentials)
        self.token = signed_in["access_token"]
        return str(signed_in["session_id"])

    async def start_deposit(self, key: str) -> dict[str, Any]:
        """Start a deposit of AMOUNT under an idempotency key."""
        body = {"amount": {"amount": AMOUNT, "currency": "INR"}}
        started: dict[str, Any] = await self.call(
            "POST", "/v1/payments/deposits", expect=201, body=body, **{"Idempotency-Key": key}
        )
        return started

    async def pay(self, deposit: dict[str, Any]) -> str:
        """Go through our page, the gateway's and back; return the address of the gateway's page."""
        hosted = await self._browser.submit(await self._browser.open(deposit["checkout_url"]))
        expect(AMOUNT in hosted.text, "the hosted page does not show the amount")
        returning = await self._browser.submit(hosted, action="pay")
        result = await self._browser.submit(returning)
        expect(result.status == 200 and deposit["deposit_id"] in result.text, f"the return ended at {result.url}")
        return hosted.url

    async def money(self) -> dict[str, Any]:
        """Balance and entries of the wallet."""
        balance = await self.call("GET", "/v1/wallet/balance", expect=200)
        entries = await self.call("GET", "/v1/wallet/entries", expect=200)
        return {"balance": balance, "entries": entries["items"]}


async def until(what: str, look: Callable[[], Awaitable[Any]]) -> Any:
    """Look again and again until there is something. Raises NotAsItShouldBe after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = await look()
        if found:
            return found
        await asyncio.sleep(POLL_S)
    raise NotAsItShouldBe(f"{what} did not come within {PATIENCE_S:.0f} s")


def expect(condition: bool, otherwise: str) -> None:
    """Raise NotAsItShouldBe unless the condition holds."""
    if not condition:
        raise NotAsItShouldBe(otherwise)


async def play(addresses: Addresses, narrator: Narrator) -> None:
    """Play the whole path against a running stack. Raises at the first step that is not as it should be."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        person = Person(session, addresses)
        await _join(person, narrator)
        async with narrator.telling("open an SSE and a WebSocket stream") as notes:
            sse = await stack.enter_async_context(_sse(session, person))
            websocket = await stack.enter_async_context(_websocket(session, person))
            await until("both streams", lambda: _both(sse.opened, websocket.opened))
            notes.append(f"channels {' '.join(sorted(websocket.channels))}")
        deposit_id = await _deposit(person, narrator)
        await _see_events(narrator, sse, websocket, deposit_id)
        before, payment_id = await _see_money(person, narrator, deposit_id)
        await _replay(person, narrator, before, payment_id)
    narrator.write(f"\nEverything is as it should be, after {time.monotonic() - narrator.began:.1f} s.\n")


async def _join(person: Person, narrator: Narrator) -> None:
    async with narrator.telling("sign up") as notes:
        sign_up_id = await person.sign_up()
        notes += [sign_up_id, person.email]
    async with narrator.telling("find the code in the inbox, verify the e-mail") as notes:
        code, user_id = await person.verify_email(sign_up_id)
        notes += [f"code {code}", user_id]
    async with narrator.telling("sign in") as notes:
        notes.append(await person.sign_in())


async def _deposit(person: Person, narrator: Narrator) -> str:
    async with narrator.telling(f"start a deposit of ₹{AMOUNT}") as notes:
        key = secrets.token_urlsafe(24)
        deposit = await person.start_deposit(key)
        expect(await person.start_deposit(key) == deposit, "the same key did not get the same answer")
        notes += [deposit["deposit_id"], deposit["gateway_order_id"]]
    async with narrator.telling("pay on the hosted checkout page") as notes:
        notes.append(await person.pay(deposit))
    return str(deposit["deposit_id"])


async def _see_events(narrator: Narrator, sse: Stream, websocket: Stream, deposit_id: str) -> None:
    wanted = {"deposit.started", "deposit.paid", "wallet.credited"}
    async with narrator.telling("webhook → worker → ledger → both streams") as notes:
        await until("the events", lambda: _both(wanted <= set(sse.types), wanted <= set(websocket.types)))
        expect(sse.about(deposit_id) == websocket.about(deposit_id), "the two streams differ")
        credited = next(event for event in sse.events if event["type"] == "wallet.credited")
        expect(credited["data"]["reference"] == deposit_id, "the wallet was credited for something else")
        notes += [credited["id"], credited["data"]["transaction_id"]]


async def _see_money(person: Person, narrator: Narrator, deposit_id: str) -> tuple[dict[str, Any], str]:
    async with narrator.telling("balance and ledger entries") as notes:
        state = await person.money()
        available = state["balance"]["available"]["amount"]
        expect(Decimal(available) == Decimal(AMOUNT), f"the balance is {available}")
        expect([entry["reference"] for entry in state["entries"]] == [deposit_id], "the entries differ")
        deposit = await person.call("GET", f"/v1/payments/deposits/{deposit_id}", expect=200)
        expect(deposit["state"] == "paid", f"the deposit is {deposit['state']}")
        notes += [f"₹{available}", deposit["ledger_transaction_id"], deposit["gateway_payment_id"]]
    return state, deposit["gateway_payment_id"]


async def _replay(person: Person, narrator: Narrator, before: dict[str, Any], payment_id: str) -> None:
    async with narrator.telling("the same webhook a second time changes nothing") as notes:

        async def events() -> list[Any]:
            found = await person.sandbox("GET", "/_sandbox/events")
            ours = [event for event in found if event["entity_id"] == payment_id]
            return ours if ours and all(event["state"] == "delivered" for event in ours) else []

        delivered = await until("the first deliveries", events)
        event_id = next(event["id"] for event in delivered if event["name"] == "payment.captured")
        path = f"/_sandbox/deliveries?event_id={event_id}"
        known = len(await person.sandbox("GET", path))
        await person.sandbox("POST", f"/_sandbox/events/{event_id}/redeliver")

        async def repeated() -> list[Any]:
            deliveries: list[Any] = await person.sandbox("GET", path)
            return deliveries if len(deliveries) > known else []

        repeats = await until("the second delivery", repeated)
        expect(all(delivery["status"] == 200 for delivery in repeats), "a repeat was not answered 200")
        expect(await person.money() == before, "the wallet changed")
        notes += [event_id, f"{len(repeats)} deliveries", f"₹{before['balance']['available']['amount']}"]


async def _both(first: bool, second: bool) -> bool:
    return first and second


@dataclass(slots=True)
class Stream:
    """What came over one of the streams."""

    opened: bool = False
    channels: tuple[str, ...] = ()
    events: list[dict[str, Any]] = field(default_factory=list)

    def about(self, deposit_id: str) -> list[dict[str, Any]]:
        """The events that tell of a deposit, in the order they came."""
        return [event for event in self.events if deposit_id in json.dumps(event["data"])]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@asynccontextmanager
async def _sse(session: aiohttp.ClientSession, person: Person) -> AsyncIterator[Stream]:
    stream = Stream()
    headers = {"Authorization": f"Bearer {person.token}", "Accept": "text/event-stream"}
    url = f"{person.addresses.api}/v1/realtime/events"
    async with session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as response:
        expect(response.status == 200, f"the event stream answered {response.status}")
        async with _reading(_read_sse(response, stream)):
            yield stream


async def _read_sse(response: aiohttp.ClientResponse, stream: Stream) -> None:
    kind = ""
    async for raw in response.content:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event:"):
            kind = line.removeprefix("event:").strip()
        elif line.startswith("data:") and kind == "ready":
            stream.opened = True
        elif line.startswith("data:"):
            stream.events.append(json.loads(line.removeprefix("data:")))


@asynccontextmanager
async def _websocket(session: aiohttp.ClientSession, person: Person) -> AsyncIterator[Stream]:
    stream = Stream()
    url = f"{person.addresses.api.replace('http', 'ws', 1)}/v1/realtime/ws"
    async with session.ws_connect(url) as socket:
        await socket.send_json({"op": "connect", "token": person.token})
        async with _reading(_read_websocket(socket, stream)):
            yield stream


async def _read_websocket(socket: aiohttp.ClientWebSocketResponse, stream: Stream) -> None:
    async for message in socket:
        frame = json.loads(message.data)
        if frame["op"] == "welcome":
            stream.opened, stream.channels = True, tuple(frame["channels"])
        elif frame["op"] == "event":
            stream.events.append(frame["event"])


@asynccontextmanager
async def _reading(work: Any) -> AsyncIterator[None]:
    reader = asyncio.create_task(work)
    try:
        yield
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
