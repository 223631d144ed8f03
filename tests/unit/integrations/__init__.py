"""Adapters without a network: mapping, signatures, breaker, redaction."""
