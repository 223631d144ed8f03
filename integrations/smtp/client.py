"""Hand over mail to an SMTP relay, one connection per mail.

Source: RFC 5321 (replies, §4.2.1; delayed duplicates, §4.5.3.2), RFC 3207 (STARTTLS), RFC 5322 §3.6.4.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage as MimeMessage
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from integrations.ports import EmailMessage, ProviderOutcomeUnknown, ProviderRefused, ProviderUnavailable

NAME: Final = "smtp"
OPERATION: Final = "mail.send"

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_.-]{1,120}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpConfig:
    """A relay and the address we write from. Credentials are only ever sent under STARTTLS."""

    host: str
    port: int
    sender_name: str
    sender_address: str
    starttls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("SMTP user name and password go together")
        if self.username is not None and not self.starttls:
            raise ValueError("SMTP credentials need STARTTLS")


class SmtpSender:
    """Implements ports.EmailSender."""

    def __init__(self, config: SmtpConfig) -> None:
        self._config = config
        self._sender = Address(config.sender_name, addr_spec=config.sender_address)

    async def send(self, message: EmailMessage) -> None:
        """Hand over one mail; a repeat under the same message_id carries the same Message-ID."""
        mime = self._compose(message)
        client = aiosmtplib.SMTP(
            hostname=self._config.host,
            port=self._config.port,
            timeout=self._config.timeout_s,
            start_tls=self._config.starttls,
            username=self._config.username,
            password=self._config.password,
        )
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as fault:  # OSError: the certificate was not trusted
            client.close()
            raise ProviderUnavailable(NAME, OPERATION, f"not connected ({type(fault).__name__})") from fault
        try:
            await self._hand_over(client, mime, to=message.to)
        finally:
            client.close()

    async def _hand_over(self, client: aiosmtplib.SMTP, mime: MimeMessage, *, to: str) -> None:
        try:
            await client.send_message(mime, sender=self._config.sender_address, recipients=[to])
        except aiosmtplib.SMTPRecipientsRefused as fault:
            raise _refusal(fault.recipients[0]) from fault
        except aiosmtplib.SMTPResponseException as fault:
            raise _refusal(fault) from fault
        except (aiosmtplib.SMTPNotSupported, ValueError) as fault:
            raise ProviderRefused(
                NAME, OPERATION, "address not supported", status=553, code=None, field="to"
            ) from fault
        except (aiosmtplib.SMTPException, OSError) as fault:
            # The connection broke after the mail began to go: the relay may have taken it.
            raise ProviderOutcomeUnknown(NAME, OPERATION, type(fault).__name__) from fault
        # The mail is theirs now, however badly they say good-bye.
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit()

    def _compose(self, message: EmailMessage) -> MimeMessage:
        """Build the mail. Raises ProviderRefused for an address or a subject that no header can hold."""
        if _MESSAGE_ID.fullmatch(message.message_id) is None:
            raise ValueError("a message id has 1 to 120 letters, digits, dots, dashes and underscores")
        mime = MimeMessage(policy=policy.SMTP)
        try:
            mime["From"] = self._sender
            # One Address, not text: text with a comma in it would be two recipients.
            mime["To"] = Address(addr_spec=message.to)
            mime["Subject"] = message.subject
        except (ValueError, IndexError, MessageError) as fault:
            raise ProviderRefused(
                NAME, OPERATION, "address or subject not allowed", status=553, code=None, field=None
            ) from fault
        mime["Message-ID"] = f"<{message.message_id}@{self._sender.domain}>"
        mime["Date"] = format_datetime(datetime.now(UTC))
        mime["Auto-Submitted"] = "auto-generated"
        mime.set_content(message.text)
        if message.html is not None:
            mime.add_alternative(message.html, subtype="html")
        return mime


def _refusal(fault: aiosmtplib.SMTPResponseException) -> ProviderRefused | ProviderUnavailable:
    """4yz: not now. 5yz: not ever. Only the code is kept: relays write addresses into their texts."""
    if 400 <= fault.code < 500:
        return ProviderUnavailable(NAME, OPERATION, f"SMTP {fault.code}")
    return ProviderRefused(NAME, OPERATION, f"SMTP {fault.code}", status=fault.code, code=str(fault.code), field=None)
