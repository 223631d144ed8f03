"""The folder of a stack that runs on one machine: data, secrets made once, and who runs it now."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PORTS = {"MATCHDAY_PORT": 8080, "SANDBOX_PORT": 8081, "SANDBOX_SMTP_PORT": 8025}
HOST = "127.0.0.1"


class HomeInUse(Exception):
    """Another process runs this stack."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running stack answers."""

    api: str
    sandbox: str


class Home:
    """`.matchday/`, or what MATCHDAY_HOME says."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._token_key = self.path / "token-key.pem"
        self._anchor_key = self.path / "anchor-key.pem"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Home:
        return cls(Path(environ.get("MATCHDAY_HOME") or ".matchday"))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one to run this stack. Raises HomeInUse."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HomeInUse(f"{self.path} is in use by another stack") from None
            yield

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the roles get: the caller's settings, and ours for what it leaves open.

        Secrets are made at the first call and kept, so that tokens and cursors survive a restart. A port that the
        caller did not choose moves when it is taken.
        """
        environ = {key: value for key, value in environ.items() if value}  # empty is unset, as in `config`
        env = {**self._secrets(), **environ}
        env.setdefault("TOKEN_KEY_FILES", str(self._token_key))
        env.setdefault("LEDGER_ANCHOR_KEY_FILE", str(self._anchor_key))
        env.setdefault("LEDGER_ANCHOR_FILE", str(self.path / "anchors.jsonl"))
        for key, port in PORTS.items():
            env[key] = environ.get(key) or str(_free_port(port))
        env.setdefault("PUBLIC_URL", f"http://{HOST}:{env['MATCHDAY_PORT']}")
        env.setdefault("RAZORPAY_API_URL", f"http://{HOST}:{env['SANDBOX_PORT']}")
        env.setdefault("SMTP_HOST", HOST)
        env.setdefault("SMTP_PORT", env["SANDBOX_SMTP_PORT"])
        env.setdefault("SMTP_STARTTLS", "false")
        env.setdefault("MAIL_FROM", "hello@matchday.example")
        env.setdefault("SANDBOX_DIR", str(self.path / "sandbox"))
        env.setdefault("LOG_FORMAT", "text")
        return env

    def announce(self, addresses: Addresses) -> None:
        """Let other commands find the running stack."""
        (self.path / "up.json").write_text(json.dumps(asdict(addresses)))

    def withdraw(self) -> None:
        (self.path / "up.json").unlink(missing_ok=True)

    def running(self) -> Addresses | None:
        """Where the stack of this folder answers, if it runs."""
        try:
            with self.held():
                return None
        except HomeInUse:
            try:
                return Addresses(**json.loads((self.path / "up.json").read_text()))
            except FileNotFoundError:
                return None

    def _secrets(self) -> dict[str, str]:
        path = self.path / "secrets.json"
        if not path.exists():
            _write_private(self._token_key, _pem(ec.generate_private_key(ec.SECP256R1())))
            made = {
                "PASSWORD_PEPPER": secrets.token_urlsafe(32),
                "CODE_PEPPER": secrets.token_urlsafe(32),
                "CURSOR_SECRETS": secrets.token_urlsafe(32),
                "RAZORPAY_KEY_ID": "rzp_test_" + secrets.token_hex(7),
                "RAZORPAY_KEY_SECRET": secrets.token_urlsafe(24),
                "RAZORPAY_WEBHOOK_SECRETS": secrets.token_urlsafe(24),
            }
            _write_private(path, json.dumps(made, indent=2))
        if not self._anchor_key.exists():
            _write_private(self._anchor_key, _pem(ed25519.Ed25519PrivateKey.generate()))
        loaded: dict[str, str] = json.loads(path.read_text())
        return loaded


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")
