"""Cursors of keyset pages: opaque to clients, so that the order behind them can change."""

from __future__ import annotations

import base64
import binascii

from contracts.runtime.problem import Fault, InvalidParameter


def encode(position: int) -> str:
    """The cursor of a page that goes on after `position`."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def decode(cursor: str) -> int:
    """The position in a cursor of ours. Raises InvalidParameter for anything else."""
    try:
        digits = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if not digits.isascii() or not digits.isdigit() or encode(int(digits)) != cursor:
            raise ValueError("not a cursor of ours")
        position = int(digits)
        if position >= 2**63:
            raise ValueError("no such position")
    except (ValueError, binascii.Error):
        raise InvalidParameter(
            errors=[Fault("#/query/cursor", "cursor", "must be a next_cursor of this list")]
        ) from None
    return position
