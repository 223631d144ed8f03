"""Anchors: the heads of the hash chain, signed and written to a file outside the database.

Whoever can rewrite the database can rewrite the chain, too, but not what was written down elsewhere. A file has one
anchor per line, JSON with sorted keys and no spaces:

    {"anchor":{"at":…,"lanes":[{"hash":hex,"lane":0,"number":7,"total":6312},…],"number":1,"previous":hex},
     "signature":hex}

The signature is Ed25519 (RFC 8032) over the JSON text of `anchor`; `previous` is the SHA-256 of the line before,
without its end, and 64 zeros in the first.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.chain import Q
from storage.db import Database

FIRST = "0" * 64


async def anchor(db: Database, *, key: str, file: Path) -> int:
    """Append an anchor of the heads of now; its number. `key` is a PEM text. Raises ValueError, OSError."""
    async with db.connection() as conn:
        rows = await Q.heads(conn)
    lanes = [{**row, "hash": row["hash"].hex()} for row in rows]
    return await asyncio.to_thread(append, file, lanes, private_key(key))


def append(file: Path, lanes: list[dict[str, Any]], key: Ed25519PrivateKey) -> int:
    """Sign and append one line, one process at a time, and wait until it is on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.seek(0)
        lines = out.read().splitlines()
        previous = hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST
        body = {"at": datetime.now(UTC).isoformat(), "lanes": lanes, "number": len(lines) + 1, "previous": previous}
        signed = {"anchor": body, "signature": key.sign(_text(body)).hex()}
        out.write(_text(signed) + b"\n")
        out.flush()
        os.fsync(out.fileno())
        return len(lines) + 1


def read(file: Path, key: Ed25519PublicKey) -> tuple[dict[tuple[int, int], bytes], list[str]]:
    """The anchored hash of each block (lane, number), and what is wrong with the file itself. Raises OSError."""
    heads: dict[tuple[int, int], bytes] = {}
    findings: list[str] = []
    previous = FIRST
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            signed = json.loads(line)
            body = signed["anchor"]
            key.verify(bytes.fromhex(signed["signature"]), _text(body))
            if body["previous"] != previous or body["number"] != number:
                findings.append(f"anchor {number} does not follow the one before")
            for lane in body["lanes"]:
                if heads.setdefault((lane["lane"], lane["number"]), bytes.fromhex(lane["hash"])).hex() != lane["hash"]:
                    findings.append(f"anchor {number} contradicts an earlier one")
        except InvalidSignature:
            findings.append(f"anchor {number} is not signed with this key")
        except (ValueError, KeyError, TypeError):
            findings.append(f"anchor {number} cannot be read")
        previous = hashlib.sha256(line).hexdigest()
    return heads, findings


def private_key(pem: str) -> Ed25519PrivateKey:
    """Read the signing key. Raises ValueError for another kind of key."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("an anchor key is an Ed25519 key")
    return key


def public_key(pem: str) -> Ed25519PublicKey:
    """Read the verifying key: its own PEM, or that of the signing key. Raises ValueError for another kind of key."""
    if "PRIVATE KEY" in pem:
        return private_key(pem).public_key()
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("an anchor key is an Ed25519 key")
    return key


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
