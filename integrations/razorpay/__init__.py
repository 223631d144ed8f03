"""Razorpay, pay-in: orders, hosted checkout, webhooks. See README.md for the facts and the traps."""

from __future__ import annotations

from integrations.razorpay.client import RazorpayConfig, RazorpayGateway

__all__ = ["RazorpayConfig", "RazorpayGateway"]
