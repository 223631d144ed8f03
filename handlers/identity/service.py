"""The use cases of identity, one transaction each."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from contracts import ids
from contracts.errors import NotAuthenticated
from contracts.events import Event
from contracts.principal import Principal
from handlers.identity import addresses, messages, rules, store
from handlers.identity.passwords import PasswordHasher
from handlers.identity.rules import CodeWrong, CredentialsWrong, PasswordsBusy, SignUp, SignUpUnknown
from handlers.identity.sessions import Revocations
from handlers.identity.store import Login, Q, Session, User
from handlers.identity.tokens import AccessTokens
from storage.db import Connection, Database
from streams import outbox

logger = logging.getLogger(__name__)

Kick = Callable[..., Awaitable[None]]

KICK_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """`code_pepper` keys the digests of codes; `scopes` are what every session gets."""

    code_pepper: bytes = field(repr=False)
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session and the token that acts for it."""

    session: Session
    access_token: str


class Identity:
    """Sign-up, sign-in, profile, sign-out.

    `kick(task, **arguments)` asks a worker to run a task soon. It may be lost: the sweep finds the work.
    """

    def __init__(
        self, db: Database, *, hasher: PasswordHasher, tokens: AccessTokens, revocations: Revocations,
        config: IdentityConfig, kick: Kick,
    ) -> None:  # fmt: skip
        self._db = db
        self._hasher = hasher
        self._tokens = tokens
        self._revocations = revocations
        self._config = config
        self._kick = kick

    async def sign_up(self, *, email: str, password: str, display_name: str) -> SignUp:
        """Begin a sign-up and owe its mail; the same work whether or not the address is taken.

        Raises EmailInvalid, NameUnfit, PasswordWeak, PasswordsBusy. Effects: rows in sign_ups and emails.
        """
        address = addresses.parse(email)
        name = rules.showable_name(display_name)
        known = (address.email, address.email.partition("@")[0], name, messages.SERVICE)
        password_hash = await self._hasher.hash_new(password, known=known)
        sign_up_id, code = ids.new("sup"), _new_code()
        digest = rules.code_digest(self._config.code_pepper, sign_up_id, code)
        async with self._db.transaction() as conn:
            sign_up = await store.add_sign_up(
                conn, sign_up_id, email=address.email, email_key=address.key, display_name=name,
                password_hash=password_hash, code_digest=digest, code_ttl_s=rules.CODE_TTL_S,
            )  # fmt: skip
            email_id = await _owe_mail(conn, sign_up, code)
        await self._kick_mail(email_id)
        return sign_up

    async def verify_email(self, sign_up_id: str, *, code: str) -> User:
        """Complete a sign-up with its code.

        Raises SignUpUnknown, SignUpCompleted, SignUpBurned, SignUpExpired, CodeWrong; a wrong code is counted
        before it is refused. Effects: rows in users and passwords, event `user.signed_up`.
        """
        digest = rules.code_digest(self._config.code_pepper, sign_up_id, code)
        async with self._db.transaction() as conn:
            sign_up = await store.lock_sign_up(conn, sign_up_id)
            if sign_up is None:
                raise SignUpUnknown
            rules.ensure_open(sign_up)
            user = await _complete(conn, sign_up) if rules.is_right_code(sign_up, digest) else None
            if user is None:
                await Q.count_wrong_code(conn, id=sign_up_id)
        if user is None:
            raise CodeWrong(attempts_left=rules.attempts_left(sign_up))
        return user

    async def resend_code(self, sign_up_id: str) -> SignUp:
        """Owe a mail with a new code.

        Raises SignUpUnknown, SignUpCompleted, SignUpBurned, SignUpExpired, ResendsUsedUp, ResendTooSoon.
        """
        code = _new_code()
        digest = rules.code_digest(self._config.code_pepper, sign_up_id, code)
        async with self._db.transaction() as conn:
            sign_up = await store.lock_sign_up(conn, sign_up_id)
            if sign_up is None:
                raise SignUpUnknown
            rules.ensure_resendable(sign_up)
            sign_up = await store.renew_code(conn, sign_up_id, code_digest=digest, code_ttl_s=rules.CODE_TTL_S)
            email_id = await _owe_mail(conn, sign_up, code)
        await self._kick_mail(email_id)
        return sign_up

    async def create_session(self, *, email: str, password: str) -> SignedIn:
        """Sign in. Raises CredentialsWrong after the same work whatever is wrong, PasswordsBusy.

        Effects: a row in sessions; the password's hash is renewed when hashes cost more by now.
        """
        async with self._db.connection() as conn:
            login = await store.find_login(conn, addresses.key(email))
        matches = await self._hasher.verify(password, login.password_hash if login else None)
        if login is None or not matches:
            raise CredentialsWrong
        new_hash = await self._renewed_hash(login, password)
        async with self._db.transaction() as conn:
            session = await store.add_session(
                conn, ids.new("ses"), user_id=login.user_id, scopes=self._config.scopes, ttl_s=self._tokens.ttl_s
            )
            if new_hash is not None:
                await Q.replace_password_hash(
                    conn, user_id=login.user_id, old_hash=login.password_hash, new_hash=new_hash
                )
        token = self._tokens.issue(
            user_id=session.user_id, session_id=session.id, scopes=session.scopes,
            at=session.created_at, until=session.expires_at,
        )  # fmt: skip
        return SignedIn(session, token)

    async def get_user(self, principal: Principal) -> User:
        """The user who asks. Raises NotAuthenticated when there is none any more."""
        async with self._db.connection() as conn:
            user = await store.find_user(conn, principal.user_id)
        if user is None:
            raise NotAuthenticated
        return user

    async def end_session(self, principal: Principal) -> None:
        """Sign out: the session's tokens are refused here at once and everywhere within two seconds."""
        async with self._db.transaction() as conn:
            await Q.revoke_session(conn, id=principal.session_id)
        self._revocations.note(principal.session_id, principal.expires_at)

    async def _renewed_hash(self, login: Login, password: str) -> str | None:
        """A hash of today's cost for one of yesterday's; None when there is no need, or no time now."""
        if not self._hasher.is_outdated(login.password_hash):
            return None
        try:
            return await self._hasher.hash_again(password)
        except PasswordsBusy:
            return None

    async def _kick_mail(self, email_id: str) -> None:
        try:
            async with asyncio.timeout(KICK_TIMEOUT_S):
                await self._kick("identity.send_email", email_id=email_id)
        except Exception as fault:  # the mail is owed whatever happens here, and the sweep will send it
            logger.warning("identity.kick_lost", extra={"email_id": email_id, "fault": type(fault).__name__})


async def _complete(conn: Connection, sign_up: SignUp) -> User | None:
    user = await store.add_user(conn, ids.new("usr"), sign_up=sign_up)
    if user is None:
        return None
    await Q.add_password(conn, user_id=user.id, hash=sign_up.password_hash)
    await Q.complete_sign_up(conn, id=sign_up.id)
    data = {"user_id": user.id, "verified_at": user.email_verified_at.isoformat()}
    await outbox.append(conn, Event("user.signed_up", user.id, (f"user:{user.id}",), data))
    return user


async def _owe_mail(conn: Connection, sign_up: SignUp, code: str) -> str:
    message = messages.address_taken() if sign_up.address_taken else messages.verification_code(code)
    email_id = ids.new("eml")
    await Q.add_email(
        conn, id=email_id, to_address=sign_up.email, subject=message.subject, text=message.text,
        useful_s=message.useful_s,
    )  # fmt: skip
    return email_id


def _new_code() -> str:
    return f"{secrets.randbelow(10**rules.CODE_LENGTH):0{rules.CODE_LENGTH}}"
