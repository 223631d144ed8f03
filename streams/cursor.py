"""Cursors: where a client stands in the log, for all its channels at once, readable by nobody but us.

A bare position would show everybody how much happens and when (Mercure specification, "Reconnection"), so it is
sealed with AES-SIV (RFC 5297): authenticated with 128 bits, encrypted, and deterministic, so that every node gives
the same cursor for the same position and a frame can be shared by all its receivers.

    base64url( version · AES-SIV( epoch(16) · { shard(2) · position(8) }… ) )
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"\x01"
MIN_SECRET_BYTES = 32
MAX_CURSOR_CHARS = 400

_POSITION = struct.Struct(">HQ")
_EPOCH_BYTES = 16


class CursorInvalid(ValueError):
    """A cursor that no secret of ours made, or not in this version."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to these positions, by shard, has been seen in one lifetime of the log."""

    epoch: UUID
    positions: Mapping[int, int]


class CursorCodec:
    """Seals with the first secret and opens with any of them, so that secrets can be rotated.

    Raises ValueError without a secret, or for one shorter than 32 bytes.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("a cursor secret is needed")
        self._ciphers = [AESSIV(_derive(secret)) for secret in secrets]

    def encode(self, cursor: Cursor) -> str:
        """Return the cursor as text of the base64url alphabet."""
        plain = cursor.epoch.bytes + b"".join(_POSITION.pack(*item) for item in sorted(cursor.positions.items()))
        sealed = self._ciphers[0].encrypt(plain, [VERSION])
        return _text(VERSION + sealed)

    def decode(self, text: str) -> Cursor:
        """Read a cursor. Raises CursorInvalid for anything that we did not make."""
        if len(text) > MAX_CURSOR_CHARS or not text.isascii():
            raise CursorInvalid("not a cursor")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise CursorInvalid("not base64url") from None
        if raw[:1] != VERSION or _text(raw) != text:  # one spelling only
            raise CursorInvalid("of an unknown version")
        plain = self._open(raw[1:])
        positions = dict(_POSITION.iter_unpack(plain[_EPOCH_BYTES:]))
        return Cursor(UUID(bytes=plain[:_EPOCH_BYTES]), positions)

    def _open(self, sealed: bytes) -> bytes:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed, [VERSION])
            except (InvalidTag, ValueError):  # ValueError: shorter than a tag
                continue
        raise CursorInvalid("not sealed by us")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _derive(secret: str) -> bytes:
    material = secret.encode()
    if len(material) < MIN_SECRET_BYTES:
        raise ValueError(f"a cursor secret needs {MIN_SECRET_BYTES} bytes")
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"matchday streams cursor 1").derive(material)
