"""Who may read which channel: one table, asked anew at every connect, subscribe and resume."""

from __future__ import annotations

from streams.connection import Principal

# A channel is a kind and an id; these kinds belong to the user whose id they carry.
OWN_KINDS = ("user", "wallet")


def channels_for(principal: Principal) -> frozenset[str]:
    """What a stream carries when the client names no channels."""
    return frozenset(f"{kind}:{principal.user_id}" for kind in OWN_KINDS)


def may_read(principal: Principal, channel: str) -> bool:
    """Whether this principal may read this channel now."""
    return channel in channels_for(principal)
