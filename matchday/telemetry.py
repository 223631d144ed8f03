"""Logs: one JSON object a line, a static event name and fields. Only fields of this list leave the process."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

# An allow-list: a field nobody thought about cannot carry a secret or a name out.
# fmt: off
FIELDS = frozenset({
    "attempt", "attempts", "code", "count", "duration_ms", "email_id", "fault", "gateway", "group", "inbox_id",
    "method", "operation", "operation_id", "outcome", "path", "position", "provider", "reason", "remote", "request_id",
    "role", "route", "session_id", "shard", "status", "task", "task_id", "trace_id",
})
# fmt: on
_NOISY = ("aiohttp.access", "asyncio", "connexion", "databases", "taskiq", "yoyo")


class JsonFormatter(logging.Formatter):
    """A record as JSON."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "event": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A record as a line for people."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s {role:9} %(levelname)-7s %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = " ".join(f"{name}={value}" for name, value in fields(record).items())
        head, *rest = line.split("\n", 1)
        return "\n".join([f"{head} {extra}".rstrip(), *rest])


def fields(record: logging.LogRecord) -> dict[str, object]:
    """The allowed extra fields of a record."""
    return {name: value for name, value in vars(record).items() if name in FIELDS}


def configure(role: str, *, style: Literal["json", "text"]) -> None:
    """Send every log line of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(role) if style == "json" else TextFormatter(role))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
