"""A local stand-in for Razorpay that speaks its wire format over real HTTP.

It shares no code with the adapter: its signer, its entities and its errors are its own, so that a
mistake in one is not repeated in the other. What it knows is in a SQLite file and survives a restart.
"""

from __future__ import annotations

from integrations.razorpay.sandbox.application import setup
from integrations.razorpay.sandbox.control import overview
from integrations.razorpay.sandbox.state import RazorpaySandboxConfig

__all__ = ["RazorpaySandboxConfig", "overview", "setup"]
