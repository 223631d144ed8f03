"""Mails in SQLite, one row for each recipient."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS smtp_mails (
    id integer PRIMARY KEY,
    message_id text NOT NULL,
    sender text NOT NULL,
    recipient text NOT NULL COLLATE NOCASE,
    subject text NOT NULL,
    body text NOT NULL,
    raw blob NOT NULL,
    received_at text NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS smtp_mails_recipient ON smtp_mails (recipient, id);
"""


class Mailbox:
    """Every mail that came, used from one event loop."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = wal")
        self._db.execute("PRAGMA busy_timeout = 5000")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def take(self, raw: bytes, *, sender: str, recipients: list[str]) -> None:
        """Store a mail for each of its recipients, all or none."""
        mail = message_from_bytes(raw, policy=policy.default)
        kept = {
            "message_id": str(mail.get("Message-ID", "")),
            "sender": sender,
            "subject": str(mail.get("Subject", "")),
            "body": _text(mail),
            "raw": raw,
            "received_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        with self._db:
            self._db.executemany(
                "INSERT INTO smtp_mails (message_id, sender, recipient, subject, body, raw, received_at)"
                " VALUES (:message_id, :sender, :recipient, :subject, :body, :raw, :received_at)",
                [{**kept, "recipient": recipient} for recipient in recipients],
            )

    def mails(self, limit: int, *, to: str | None = None) -> list[sqlite3.Row]:
        """Newest mails first, for one address or for all."""
        return self._db.execute(
            "SELECT id, message_id, sender, recipient, subject, body, received_at FROM smtp_mails"
            " WHERE ?1 IS NULL OR recipient = ?1 ORDER BY id DESC LIMIT ?2",
            (to, limit),
        ).fetchall()

    def mail(self, mail_id: int) -> sqlite3.Row | None:
        """One mail."""
        row: sqlite3.Row | None = self._db.execute(
            "SELECT id, message_id, sender, recipient, subject, body, received_at FROM smtp_mails WHERE id = ?",
            (mail_id,),
        ).fetchone()
        return row


def _text(mail: EmailMessage) -> str:
    part = mail.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    content = part.get_content()
    return content if isinstance(content, str) else ""
