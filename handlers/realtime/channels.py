"""The kinds of channels: one table, from which rights, presence and documents follow.

A slice that brings a kind adds a line here and a section of its name to contracts/events.yaml; a test holds the two
together. A channel's name is the kind, a colon, and the id of what it is about: `wallet:usr_…`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from streams.admission import PresenceDetail


class Readers(Enum):
    """Who may read a channel of a kind; rights.py asks, and the value says it in documents."""

    OWNER = "that user"
    PAYER = "whoever started it"
    MEMBERS = "its members, as long as they are"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A line of the table. `parameter` is the id's name in documents, `id` a regular expression for it."""

    name: str
    parameter: str
    id: str
    readers: Readers
    is_default: bool  # in every stream for which no channels are named; the id is the user's own
    is_withdrawable: bool  # whether a reader can lose the right while a stream is open
    presence: PresenceDetail | None
    subject: str  # what it is about, for documents

    @property
    def address(self) -> str:
        """The pattern of the names, as AsyncAPI writes it."""
        return f"{self.name}:{{{self.parameter}}}"

    @property
    def title(self) -> str:
        """One line for documents."""
        default = " In every stream without being asked for." if self.is_default else ""
        presence = {None: "", "count": " Tells how many are there.", "members": " Tells who is there."}[self.presence]
        return f"{self.subject}; readable by {self.readers.value}.{default}{presence}"


def _type_id(prefix: str) -> str:
    return f"{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}"


KINDS = (
    Kind(
        name="user", parameter="user_id", id=_type_id("usr"), readers=Readers.OWNER, is_default=True,
        is_withdrawable=False, presence=None, subject="What concerns one user",
    ),
    Kind(
        name="wallet", parameter="user_id", id=_type_id("usr"), readers=Readers.OWNER, is_default=True,
        is_withdrawable=False, presence=None, subject="The wallet of one user",
    ),
    Kind(
        name="payment", parameter="deposit_id", id=_type_id("dep"), readers=Readers.PAYER, is_default=False,
        is_withdrawable=False, presence=None, subject="One deposit",
    ),
    Kind(
        name="activity", parameter="activity_id", id=_type_id("act"), readers=Readers.MEMBERS, is_default=False,
        is_withdrawable=True, presence="members", subject="One activity",
    ),
    Kind(
        name="organisation", parameter="organisation_id", id=_type_id("org"), readers=Readers.MEMBERS,
        is_default=False, is_withdrawable=True, presence="count", subject="One organisation",
    ),
    Kind(
        name="back_office", parameter="desk", id="payments|kyc|support|ledger", readers=Readers.MEMBERS,
        is_default=False, is_withdrawable=True, presence="members", subject="One desk of the staff",
    ),
)  # fmt: skip

_BY_NAME = {kind.name: kind for kind in KINDS}


@lru_cache(maxsize=32_768)  # asked twice a second about every channel of every open stream
def kind_of(channel: str) -> Kind | None:
    """The kind of a channel by its name; None when no channel can have it."""
    name, _, about = channel.partition(":")
    kind = _BY_NAME.get(name)
    return kind if kind is not None and re.fullmatch(kind.id, about) else None


def id_of(channel: str) -> str:
    """What a channel is about."""
    return channel.partition(":")[2]


def default_channels(user_id: str) -> frozenset[str]:
    """The channels of a user's own, which a stream carries when none are named."""
    return frozenset(f"{kind.name}:{user_id}" for kind in KINDS if kind.is_default)
