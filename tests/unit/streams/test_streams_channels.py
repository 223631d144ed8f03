"""The table of channel kinds and contracts/events.yaml say the same."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
import yaml

from contracts import ids
from handlers.realtime.channels import KINDS, Kind, Readers, default_channels, id_of, kind_of
from streams.options import StreamOptions
from streams.presence import MAX_MEMBERS

DOCUMENT: dict[str, Any] = yaml.safe_load(resources.files("contracts").joinpath("events.yaml").read_text("utf-8"))
SECTIONS = {name: section for name, section in DOCUMENT["channels"].items() if ":" in section["address"]}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def example(kind: Kind) -> str:
    [about] = SECTIONS[kind.name]["parameters"][kind.parameter]["examples"]
    return f"{kind.name}:{about}"


def test_the_kinds_are_those_of_the_contract() -> None:
    assert list(SECTIONS) == [kind.name for kind in KINDS]


@every_kind
def test_a_kind_is_documented_as_it_is(kind: Kind) -> None:
    section = SECTIONS[kind.name]
    assert section["address"] == kind.address
    assert section["title"] == kind.title
    assert list(section["parameters"]) == [kind.parameter]
    assert kind_of(example(kind)) is kind
    for desk in section["parameters"][kind.parameter].get("enum", []):
        assert kind_of(f"{kind.name}:{desk}") is kind


@every_kind
def test_who_can_lose_a_right_and_who_cannot(kind: Kind) -> None:
    assert kind.is_withdrawable == (kind.readers is Readers.MEMBERS)
    assert kind.is_default == (example(kind) in default_channels(id_of(example(kind))))
    assert not kind.is_default or kind.readers is Readers.OWNER


@every_kind
def test_every_name_fits_where_names_are_read(kind: Kind) -> None:
    assert re.fullmatch(r"[a-z_]{1,30}:[A-Za-z0-9_]{1,69}", example(kind))


@pytest.mark.parametrize(
    "name",
    [
        "", ":", "user", "user:", "user:nobody", f"users:{ids.new('usr')}", f"user:{ids.new('dep')}",
        f"user:{ids.new('usr')} ", f" user:{ids.new('usr')}", f"user:{ids.new('usr')}\n", f"USER:{ids.new('usr')}",
        f"payment:{ids.new('usr')}", "back_office:kitchen", "back_office:support,kyc", f"activity:{ids.new('act')}:x",
    ],
)  # fmt: skip
def test_nothing_else_is_a_channel(name: str) -> None:
    assert kind_of(name) is None


def test_numbers_in_the_contract_are_those_of_the_code() -> None:
    options = StreamOptions()
    text = " ".join(DOCUMENT["info"]["description"].split())
    schemas = DOCUMENT["components"]["schemas"]
    assert f"One user has at most {options.max_streams_per_user} streams" in text
    assert f"at most {options.max_channels} in a stream" in text
    assert schemas["PresentMembers"]["maxItems"] == MAX_MEMBERS
    vanished_s = options.presence_ttl_s + options.presence_heartbeat_s + options.presence_tick_s
    assert vanished_s <= 15
    assert "is there for up to 15 seconds more" in text
