"""Named queries in, frozen dataclasses out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from handlers.identity.rules import CredentialsWrong, SignUp
from storage import faults, sql
from storage.db import Connection

Q = sql.load(__package__)

# A user who is deleted between the check of the password and the session is one who is unknown.
faults.on_constraint("sessions_user_id_fkey", lambda _: CredentialsWrong())


@dataclass(frozen=True, slots=True)
class User:
    id: str
    email: str
    email_verified_at: datetime
    display_name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """What signing in is checked against."""

    user_id: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    user_id: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Revoked:
    """`ended` maps sessions to the end of their tokens; ask from `horizon` the next time."""

    ended: dict[str, datetime]
    horizon: str


@dataclass(frozen=True, slots=True)
class Email:
    """A mail that this caller holds until `leased_until`."""

    id: str
    to_address: str
    subject: str
    text: str
    attempts: int
    leased_until: datetime


async def add_sign_up(
    conn: Connection, sign_up_id: str, *, email: str, email_key: str, display_name: str, password_hash: str,
    code_digest: bytes, code_ttl_s: int,
) -> SignUp:  # fmt: skip
    row = await Q.add_sign_up(
        conn, id=sign_up_id, email=email, email_key=email_key, display_name=display_name,
        password_hash=password_hash, code_digest=code_digest, code_ttl_s=code_ttl_s,
    )  # fmt: skip
    return SignUp(**row)


async def lock_sign_up(conn: Connection, sign_up_id: str) -> SignUp | None:
    """A sign-up, locked until the transaction ends."""
    row = await Q.lock_sign_up(conn, id=sign_up_id)
    return SignUp(**row) if row else None


async def renew_code(conn: Connection, sign_up_id: str, *, code_digest: bytes, code_ttl_s: int) -> SignUp:
    row = await Q.renew_code(conn, id=sign_up_id, code_digest=code_digest, code_ttl_s=code_ttl_s)
    return SignUp(**row)


async def add_user(conn: Connection, user_id: str, *, sign_up: SignUp) -> User | None:
    """The new user, or None when the address has one."""
    row = await Q.add_user(
        conn, id=user_id, email=sign_up.email, email_key=sign_up.email_key, display_name=sign_up.display_name
    )
    return User(**row) if row else None


async def find_user(conn: Connection, user_id: str) -> User | None:
    row = await Q.find_user(conn, id=user_id)
    return User(**row) if row else None


async def find_login(conn: Connection, email_key: str) -> Login | None:
    row = await Q.find_login(conn, email_key=email_key)
    return Login(**row) if row else None


async def add_session(conn: Connection, session_id: str, *, user_id: str, scopes: Sequence[str], ttl_s: int) -> Session:
    row = await Q.add_session(conn, id=session_id, user_id=user_id, scopes=list(scopes), ttl_s=ttl_s)
    return Session(**{**row, "scopes": tuple(row["scopes"])})


async def session_is_live(conn: Connection, session_id: str) -> bool:
    return await Q.session_is_live(conn, id=session_id) is True


async def find_revoked(conn: Connection, *, since: str) -> Revoked:
    row = await Q.find_revoked(conn, since=since)
    return Revoked(dict(zip(row["ids"], row["ends"], strict=True)), row["horizon"])


async def claim_email(conn: Connection, email_id: str, *, lease_s: int) -> Email | None:
    """One due mail by its id; None when it is sent, given up, held by another or not due."""
    row = await Q.claim_email(conn, id=email_id, lease_s=lease_s)
    return Email(**row) if row else None


async def claim_due_email(conn: Connection, *, lease_s: int) -> Email | None:
    """The mail that has been due for longest and that nobody holds."""
    row = await Q.claim_due_email(conn, lease_s=lease_s)
    return Email(**row) if row else None
