"""How Razorpay signs: written apart from the adapter's verifier, and tested against the same vectors."""

from __future__ import annotations

import hmac


def sign_checkout(key_secret: str, *, order_id: str, payment_id: str) -> str:
    """Sign a successful checkout. Source: payment-gateway/web-integration/hosted/integration-steps."""
    message = order_id + "|" + payment_id
    return hmac.digest(bytes(key_secret, "ascii"), bytes(message, "ascii"), "sha256").hex()


def sign_webhook(webhook_secret: str, body: bytes) -> str:
    """Sign a webhook body, byte for byte. Source: webhooks/validate-test."""
    return hmac.digest(bytes(webhook_secret, "ascii"), body, "sha256").hex()
