"""Access tokens: signed by us, read in microseconds, refused when their session is over.

JWTs after RFC 9068 (`typ: at+jwt`) and RFC 8725: one algorithm, which the key fixes; keys only from our own
configuration, found by `kid`; every claim checked. A token that passed is remembered by its SHA-256, so that a
signature is verified once; expiry, revocation and scopes are asked every time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, GuestProtocol
from joserfc.jws import JWSRegistry

from contracts import ids
from contracts.errors import NotAuthenticated
from contracts.principal import Principal
from contracts.runtime.problem import AuthenticationInvalid, ScopeMissing
from handlers.identity.sessions import Revocations

ALGORITHM = "ES256"
TYPES = ("at+jwt", "application/at+jwt")
MAX_TOKEN_BYTES = 8192
_REQUIRED: jwt.ClaimsOption = {"essential": True}


class TokenExpired(NotAuthenticated):
    code, title = "auth.expired", "The access token has expired"


class SessionEnded(NotAuthenticated):
    code, title = "auth.session_ended", "The session has ended"


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """`issuer` and `audience` are URLs of ours, `client_id` the application that signs in (RFC 9068 §2.2).

    `leeway_s` is how far the clocks of two nodes may lie apart; `cache_size` counts tokens (about 1 KB each).
    """

    issuer: str
    audience: str
    client_id: str = "matchday"
    ttl_s: int = 900
    leeway_s: int = 30
    cache_size: int = 10_000


class AccessTokens:
    """Issues and verifies. `pem_keys`: P-256 keys, of which the first is private and signs, and all verify.

    Raises ValueError at once for keys that will not do.
    """

    def __init__(self, pem_keys: Sequence[str], *, config: TokenConfig, revocations: Revocations) -> None:
        keys = [_p256_key(pem) for pem in pem_keys]
        if not keys or not keys[0].is_private:
            raise ValueError("the first token key must be a private key")
        self._config = config
        self._revocations = revocations
        self._signing_key = keys[0]
        self._keys = {key.thumbprint(): key for key in keys}
        self._registry = JWSRegistry(algorithms=[ALGORITHM])
        self._claims = jwt.JWTClaimsRegistry(
            leeway=config.leeway_s,
            iss={"essential": True, "value": config.issuer},
            aud={"essential": True, "value": config.audience},
            sub=_REQUIRED, client_id=_REQUIRED, jti=_REQUIRED, sid=_REQUIRED, scope={**_REQUIRED, "allow_blank": True},
            exp=_REQUIRED, iat=_REQUIRED, nbf=_REQUIRED, auth_time=_REQUIRED,
        )  # fmt: skip
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()

    @property
    def ttl_s(self) -> int:
        return self._config.ttl_s

    def issue(self, *, user_id: str, session_id: str, scopes: Sequence[str], at: datetime, until: datetime) -> str:
        """A signed token of a session that began `at`; both instants count in whole seconds."""
        begin = int(at.timestamp())
        claims: dict[str, Any] = {
            "iss": self._config.issuer,
            "aud": self._config.audience,
            "client_id": self._config.client_id,
            "sub": user_id,
            "sid": session_id,
            "jti": ids.new("tok"),
            "scope": " ".join(scopes),
            "iat": begin,
            "nbf": begin,
            "auth_time": begin,
            "exp": int(until.timestamp()),
        }
        header = {"alg": ALGORITHM, "typ": TYPES[0], "kid": self._signing_key.thumbprint()}
        return jwt.encode(header, claims, self._signing_key, registry=self._registry)

    async def verify(self, request: web.Request, credential: str, required_scopes: Sequence[str]) -> Principal:
        """Who a request comes from: the contract runtime's security handler. Raises what `check` does."""
        return await self.check(credential, required_scopes)

    async def check(self, credential: str, required_scopes: Sequence[str]) -> Principal:
        """Whom a token acts for.

        Raises AuthenticationInvalid, TokenExpired, SessionEnded (401), ScopeMissing (403), StorageBusy when only the
        database could tell whether the session is over, and it cannot.
        """
        principal = self._read(credential)
        if principal.expires_at <= datetime.now(UTC):
            raise TokenExpired
        if await self._revocations.is_revoked(principal.session_id):
            raise SessionEnded
        if not principal.scopes.issuperset(required_scopes):
            raise ScopeMissing(extra={"scopes": list(required_scopes)})
        return principal

    def _read(self, credential: str) -> Principal:
        if len(credential) > MAX_TOKEN_BYTES or not credential.isascii():
            raise AuthenticationInvalid
        digest = sha256(credential.encode()).digest()
        principal = self._verified.get(digest)
        if principal is None:
            principal = self._verified[digest] = self._decode(credential)
            if len(self._verified) > self._config.cache_size:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(digest)
        return principal

    def _decode(self, credential: str) -> Principal:
        try:
            token = jwt.decode(credential, self._key_of, registry=self._registry)
            if str(token.header.get("typ")).lower() not in TYPES:
                raise AuthenticationInvalid
            self._claims.validate(token.claims)
            return _principal(token.claims)
        except ExpiredTokenError:
            raise TokenExpired from None
        except (JoseError, ValueError, OverflowError, RecursionError):  # of brackets, or of an end beyond all time
            raise AuthenticationInvalid from None

    def _key_of(self, signature: GuestProtocol) -> ECKey:
        key = self._keys.get(signature.headers().get("kid", ""))
        if key is None:
            raise AuthenticationInvalid
        return key


def _p256_key(pem: str) -> ECKey:
    key = ECKey.import_key(pem)
    if key.curve_name != "P-256":
        raise ValueError(f"a token key must be on P-256 for {ALGORITHM}")
    return key


def _principal(claims: dict[str, Any]) -> Principal:
    if not (ids.is_valid(str(claims["sub"]), "usr") and ids.is_valid(str(claims["sid"]), "ses")):
        raise AuthenticationInvalid
    return Principal(
        user_id=claims["sub"],
        session_id=claims["sid"],
        scopes=frozenset(str(claims["scope"]).split()),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )
