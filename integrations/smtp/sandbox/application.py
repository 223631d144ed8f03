"""The SMTP listener and the inbox: pages for people, JSON for tests and demonstrations."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from integrations.sandbox_pages import Link, Pages, Section
from integrations.smtp.sandbox.mailbox import Mailbox

logger = logging.getLogger(__name__)

LIMIT: Final = 100
MAX_MAIL_BYTES: Final = 5_000_000

MAILBOX: Final = web.AppKey("smtp_sandbox_mailbox", Mailbox)
SMTP_PORT: Final = web.AppKey("smtp_sandbox_port", int)

pages = Pages(__package__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSandboxConfig:
    """Where the listener is. Port 0 takes a free one, to be read at `app[SMTP_PORT]`."""

    port: int
    database: Path
    host: str = "127.0.0.1"


class _Receiver:
    """What aiosmtpd calls for each mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        raw = content.encode() if isinstance(content, str) else content or b""
        self._mailbox.take(raw, sender=envelope.mail_from or "", recipients=list(envelope.rcpt_tos))
        logger.info("sandbox.smtp.mail", extra={"recipients": len(envelope.rcpt_tos), "bytes": len(raw)})
        return "250 2.0.0 Kept in the sandbox"


def setup(app: web.Application, config: SmtpSandboxConfig) -> None:
    """Add the inbox and the SMTP listener."""
    app.router.add_get("/inbox", show_inbox)
    app.router.add_get(r"/inbox/{mail_id:\d{1,15}}", show_mail)
    app.router.add_get("/_sandbox/inbox", list_inbox)

    async def run(app: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        mailbox = Mailbox(config.database)
        receiver = _Receiver(mailbox)
        listener = await loop.create_server(
            lambda: SMTP(receiver, data_size_limit=MAX_MAIL_BYTES, hostname="sandbox", enable_SMTPUTF8=True, loop=loop),
            config.host,
            config.port,
        )
        app[MAILBOX] = mailbox
        app[SMTP_PORT] = listener.sockets[0].getsockname()[1]
        yield
        listener.close()
        mailbox.close()

    app.cleanup_ctx.append(run)


async def show_inbox(request: web.Request) -> web.Response:
    """The inbox, newest first; `?to=` for one address."""
    to = request.query.get("to") or None
    mails = request.app[MAILBOX].mails(LIMIT, to=to)
    return pages.render("inbox.html", title="Inbox", mails=mails, to=to)


async def show_mail(request: web.Request) -> web.Response:
    """One mail."""
    mail = request.app[MAILBOX].mail(int(request.match_info["mail_id"]))
    if mail is None:
        raise web.HTTPNotFound
    return pages.render("mail.html", title=mail["subject"], mail=mail)


async def list_inbox(request: web.Request) -> web.Response:
    """The inbox as JSON, newest first; `?to=` for one address."""
    mails = request.app[MAILBOX].mails(LIMIT, to=request.query.get("to") or None)
    return web.json_response({"items": [_mail(row) for row in mails]})


def overview(app: web.Application) -> list[Section]:
    """The table of the overview page."""
    return [
        Section(
            title="Inbox",
            link=Link("all mail", "/inbox"),
            columns=("To", "Subject", "Received"),
            rows=[
                [row["recipient"], Link(row["subject"] or "(no subject)", f"/inbox/{row['id']}"), row["received_at"]]
                for row in app[MAILBOX].mails(10)
            ],
            empty="No mail yet.",
        )
    ]


def _mail(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "message_id": row["message_id"],
        "to": row["recipient"],
        "subject": row["subject"],
        "text": row["body"],
        "received_at": row["received_at"],
    }
