"""E-mail over SMTP. See README.md for the facts and the traps."""

from __future__ import annotations

from integrations.smtp.client import SmtpConfig, SmtpSender

__all__ = ["SmtpConfig", "SmtpSender"]
