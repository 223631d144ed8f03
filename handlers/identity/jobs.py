"""Tasks of identity: mail that is owed gets sent, at least once and under one Message-ID."""

from __future__ import annotations

import logging

from handlers.identity import rules, store
from handlers.identity.store import Email, Q
from integrations.ports import EmailMessage, EmailSender, ProviderError, ProviderRefused, ProviderUnavailable
from storage.db import Database

logger = logging.getLogger(__name__)

LEASE_S = 60  # longer than a sender takes, or two workers send the same mail
SWEEP_LIMIT = 100


class Jobs:
    """`send_email` is kicked after the commit that owes a mail; `send_due_emails` runs by the clock."""

    def __init__(self, db: Database, *, sender: EmailSender) -> None:
        self._db = db
        self._sender = sender

    async def send_email(self, email_id: str) -> None:
        """Send one mail if it is due and nobody else is sending it."""
        async with self._db.transaction() as conn:
            email = await store.claim_email(conn, email_id, lease_s=LEASE_S)
        if email is not None:
            await self._send(email)

    async def send_due_emails(self) -> int:
        """Send what is due, the oldest first, up to a limit; return how many were tried."""
        for tried in range(SWEEP_LIMIT):
            async with self._db.transaction() as conn:
                email = await store.claim_due_email(conn, lease_s=LEASE_S)
            if email is None:
                return tried
            await self._send(email)
        return SWEEP_LIMIT

    async def _send(self, email: Email) -> None:
        message = EmailMessage(message_id=email.id, to=email.to_address, subject=email.subject, text=email.text)
        try:
            await self._sender.send(message)
        except ProviderRefused as refusal:
            await self._give_up(email, refusal)
        except Exception as fault:  # whatever it is, the next mail must not wait for it
            await self._postpone(email, fault)
        else:
            async with self._db.transaction() as conn:
                await Q.settle_email_sent(conn, id=email.id)

    async def _give_up(self, email: Email, refusal: ProviderRefused) -> None:
        logger.warning("identity.email_refused", extra={"email_id": email.id, "provider": refusal.provider})
        async with self._db.transaction() as conn:
            await Q.settle_email_failed(conn, id=email.id, reason=_reason(refusal))

    async def _postpone(self, email: Email, fault: Exception) -> None:
        known = isinstance(fault, ProviderError)
        logger.warning("identity.email_postponed", extra={"email_id": email.id}, exc_info=None if known else fault)
        wished_s = fault.retry_after_s if isinstance(fault, ProviderUnavailable) else None
        async with self._db.transaction() as conn:
            await Q.postpone_email(
                conn, id=email.id, leased_until=email.leased_until, reason=_reason(fault),
                delay_s=rules.email_backoff_s(email.attempts, wished_s=wished_s),
            )  # fmt: skip


def _reason(fault: Exception) -> str:
    """What kind of fault it was; a provider's own words may quote the address."""
    return type(fault).__name__
