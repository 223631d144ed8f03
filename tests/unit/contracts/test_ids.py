from __future__ import annotations

import time
import uuid

import pytest

from contracts import ids

# Valid vectors of the TypeID specification, version 0.3: prefix-less suffix and UUID.
VECTORS = [
    ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
    ("00000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
    ("0000000000000000000000000a", "00000000-0000-0000-0000-00000000000a"),
    ("0000000000000000000000000g", "00000000-0000-0000-0000-000000000010"),
    ("00000000000000000000000010", "00000000-0000-0000-0000-000000000020"),
    ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ("0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
    ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
]


@pytest.mark.parametrize(("suffix", "value"), VECTORS)
def test_vectors_of_the_specification(suffix: str, value: str) -> None:
    assert ids.encode(uuid.UUID(value)) == suffix
    assert ids.decode(suffix) == uuid.UUID(value)


def test_a_new_id_is_a_uuid7_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.new("dep")
    value = ids.decode(made.removeprefix("dep_"))
    assert ids.is_valid(made, "dep")
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert before <= value.int >> 80 <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dep",
        "dep_",
        "usr_01h455vb4pex5vsknk084sn02q",
        "dep_81h455vb4pex5vsknk084sn02q",
        "dep_01H455VB4PEX5VSKNK084SN02Q",
        "dep_01h455vb4pex5vsknk084sn02",
        "dep_01h455vb4pex5vsknk084sn02qq",
        "dep_01h455vb4pex5vsknk084sn02u",
        "dep_01h455vb4pex5vsknk084sn02q\n",
        "dep_٠1h455vb4pex5vsknk084sn02q",
    ],
)
def test_what_is_no_id_of_the_kind(text: str) -> None:
    assert not ids.is_valid(text, "dep")


def test_ids_do_not_repeat() -> None:
    assert len({ids.new("evt") for _ in range(10_000)}) == 10_000


def test_an_id_that_follows_from_a_key() -> None:
    # SHA-256 of "key" begins with 2c70e12b7a0646f92279f427c7b38e73: version and variant of a UUIDv8 take two digits.
    value = uuid.UUID("2c70e12b-7a06-86f9-8279-f427c7b38e73")
    assert ids.derived("trf", "key") == ids.of("trf", value)
    assert (value.version, value.variant) == (8, uuid.RFC_4122)
