"""HMAC signatures as gateways write them: lower-case hex, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256


def hmac_sha256_hex(secret: str, message: bytes) -> str:
    """Return the lower-case hex HMAC-SHA256 of `message`. Source: RFC 2104, FIPS 180-4."""
    return hmac.new(secret.encode(), message, sha256).hexdigest()


def signed_with_any(secrets: Iterable[str], message: bytes, received: str) -> bool:
    """Tell whether `received` is the signature of `message` under one of `secrets`.

    Every secret is tried, whichever matches, so that the time taken tells nothing about which it was.
    """
    given = received.lower().encode("utf-8", "replace")
    matches = [hmac.compare_digest(hmac_sha256_hex(secret, message).encode(), given) for secret in secrets]
    return any(matches)
