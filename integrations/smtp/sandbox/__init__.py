"""A local mail server that keeps every mail and delivers none, with an inbox to read them in."""

from __future__ import annotations

from integrations.smtp.sandbox.application import SMTP_PORT, SmtpSandboxConfig, overview, setup

__all__ = ["SMTP_PORT", "SmtpSandboxConfig", "overview", "setup"]
