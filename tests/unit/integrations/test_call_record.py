"""What is kept of a call: an allow-list, so that a new field is hidden until somebody decides."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from integrations.http import REDACTED, CallRecord, log_call, redact


def test_only_allow_listed_fields_keep_their_value() -> None:
    document = {
        "id": "pay_1",
        "amount": Decimal(5),
        "email": "player@example.com",
        "card": {"id": "card_1", "last4": "1111"},
        "notes": ["a", {"id": "n"}],
        "vpa": None,
        "upi": {},
    }
    assert redact(document, frozenset({"id", "amount"})) == {
        "id": "pay_1",
        "amount": Decimal(5),
        "email": REDACTED,
        "card": {"id": "card_1", "last4": REDACTED},
        "notes": [REDACTED, {"id": "n"}],
        "vpa": None,
        "upi": {},
    }


def test_an_allow_listed_name_does_not_open_what_is_nested_under_it() -> None:
    visible = frozenset({"id"})
    assert redact({"id": {"secret": "s"}}, visible) == {"id": {"secret": REDACTED}}
    assert redact({"id": ["s"]}, visible) == {"id": [REDACTED]}
    assert redact("text", visible) == REDACTED


def test_the_log_line_carries_no_document(caplog: pytest.LogCaptureFixture) -> None:
    record = CallRecord(
        provider="razorpay",
        operation="orders.create",
        method="POST",
        path="/v1/orders",
        attempt=1,
        status=200,
        outcome="ok",
        duration_ms=12,
        request={"receipt": "dep_1"},
        response={"id": "order_1"},
    )
    with caplog.at_level(logging.INFO, logger="integrations.http"):
        log_call(record)
    [line] = caplog.records
    assert line.message == "provider.call"
    assert line.__dict__["operation"] == "orders.create"
    assert "order_1" not in repr(line.__dict__)
