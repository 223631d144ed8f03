"""The identity slice behind its contract, on a real database; only the mail carrier and the queue are stand-ins."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.runtime.api import create_api
from contracts.runtime.loading import load_contracts
from contracts.runtime.options import RuntimeOptions
from handlers.identity.jobs import Jobs
from handlers.identity.operations import Operations
from handlers.identity.passwords import Argon2Cost, PasswordHasher
from handlers.identity.service import Identity, IdentityConfig
from handlers.identity.sessions import Revocations
from handlers.identity.tokens import AccessTokens, TokenConfig
from integrations.ports import EmailMessage
from storage.db import Database

CONTRACTS = Path(__file__).resolve().parents[3] / "contracts"
PASSWORD = "seven green shuttles"
EMAIL = "player@example.com"
OPERATIONS = {
    "signUp": "sign_up",
    "verifyEmail": "verify_email",
    "resendCode": "resend_code",
    "createSession": "create_session",
    "endSession": "end_session",
    "getMe": "get_me",
}


class Mailbox:
    """A mail carrier that keeps what it carries; `fault` is raised instead while it is set."""

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []
        self.fault: Exception | None = None

    async def send(self, message: EmailMessage) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append(message)

    def last_code(self) -> str:
        """The code in the newest mail."""
        found = re.search(r"\b[0-9]{6}\b", self.sent[-1].text)
        assert found is not None
        return found[0]


@dataclass
class Stack:
    """One node: `kicks` are the mails that a worker was asked to send."""

    database: Database
    hasher: PasswordHasher
    tokens: AccessTokens
    revocations: Revocations
    service: Identity
    mailbox: Mailbox
    jobs: Jobs
    client: TestClient[Any, Any]
    kicks: list[str] = field(default_factory=list)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> ClientResponse:
        return await self.client.post(f"/v1/identity{path}", json=body)

    async def begin(self, email: str = EMAIL) -> str:
        """Sign up, have the mail sent, return the id."""
        answer = await self.post("/sign-ups", {"email": email, "password": PASSWORD, "display_name": "Smash"})
        assert answer.status == 202, await answer.text()
        await self.deliver()
        sign_up_id: str = (await answer.json())["sign_up_id"]
        return sign_up_id

    async def deliver(self) -> None:
        """Do what a worker does with the kicks."""
        while self.kicks:
            await self.jobs.send_email(self.kicks.pop(0))

    async def join(self, email: str = EMAIL) -> str:
        """Become a user; return the id."""
        sign_up_id = await self.begin(email)
        answer = await self.post(f"/sign-ups/{sign_up_id}/verification", {"code": self.mailbox.last_code()})
        assert answer.status == 201, await answer.text()
        user_id: str = (await answer.json())["user"]["user_id"]
        return user_id

    async def sign_in(self, email: str = EMAIL) -> dict[str, str]:
        """The header that acts for a new session."""
        answer = await self.post("/sessions", {"email": email, "password": PASSWORD})
        assert answer.status == 201, await answer.text()
        return {"Authorization": f"Bearer {(await answer.json())['access_token']}"}

    async def value(self, statement: str, *args: Any) -> Any:
        async with self.database.connection() as conn:
            return await conn.raw.fetchval(statement, *args)


@pytest.fixture(scope="session")
def token_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
async def make_stack(
    database: Database, token_key: str, aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]]
) -> AsyncIterator[Callable[..., Awaitable[Stack]]]:
    """Makes a node; several on one database when called more than once."""
    stacks: list[Stack] = []
    violations: list[str] = []

    async def make(*, cost: Argon2Cost | None = None) -> Stack:
        kicks: list[str] = []

        async def kick(task: str, *, email_id: str) -> None:
            assert task == "identity.send_email"
            kicks.append(email_id)

        revocations = Revocations(database)
        config = TokenConfig(issuer="https://id.matchday.example", audience="https://api.matchday.example")
        tokens = AccessTokens([token_key], config=config, revocations=revocations)
        cost = cost or Argon2Cost(memory_kib=64)
        hasher = PasswordHasher(pepper=b"p" * 32, workers=2, queue_limit=50, cost=cost)
        service = Identity(
            database, hasher=hasher, tokens=tokens, revocations=revocations, kick=kick,
            config=IdentityConfig(code_pepper=b"c" * 32, scopes=("profile:read",)),
        )  # fmt: skip
        operations = Operations(service)
        app = create_api(
            load_contracts(CONTRACTS, ["identity"]),
            operations={operation: getattr(operations, name) for operation, name in OPERATIONS.items()},
            security={"bearerAuth": tokens.verify},
            options=RuntimeOptions(response_validation="strict", response_violations=violations, cursor=lambda: "A"),
        )
        mailbox = Mailbox()
        stack = Stack(
            database, hasher, tokens, revocations, service, mailbox, Jobs(database, sender=mailbox),
            await aiohttp_client(app), kicks,
        )  # fmt: skip
        await revocations.start()
        stacks.append(stack)
        return stack

    yield make
    for stack in stacks:
        await stack.revocations.stop()
        stack.hasher.close()
    assert violations == []


@pytest.fixture
async def stack(make_stack: Callable[..., Awaitable[Stack]]) -> Stack:
    return await make_stack()
