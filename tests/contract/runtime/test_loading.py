"""Reading contract files: strict YAML, bundling, and one message with everything that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.runtime import ContractError, create_api, lint, load_contracts
from tests.contract.runtime.harness import (
    SAMPLES,
    Recorder,
    body_operation,
    closed,
    document,
    operation,
    query,
)


def write(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def load(folder: Path, *names: str) -> list[str]:
    """The faults of loading, without the heading."""
    with pytest.raises(ContractError) as caught:
        load_contracts(folder, names)
    assert str(caught.value).startswith(f"{len(caught.value.faults)} fault(s) in the contracts:\n  - ")
    return caught.value.faults


GOOD = """
openapi: 3.0.3
info: {title: Sample, version: "1"}
servers: [{url: "https://api.example/v1/sample/"}]
paths:
  /things:
    get:
      operationId: sample
      summary: Sample
      security: []
      parameters:
        - name: opens
          in: query
          schema: {type: string, enum: [no, 12:30, 2026-01-01, 0777, 1_000, off], default: no}
      responses:
        200:
          description: Done.
          content: {application/json: {schema: {type: object}, example: {at: 2026-01-01, ratio: 1e3, level: 3, on: true, none: ~}}}
        4XX: {description: Refused., content: {application/problem+json: {schema: {type: object}}}}
"""


def test_yaml_is_read_as_json_would_be(tmp_path: Path) -> None:
    write(tmp_path, sample=GOOD)
    (contract,) = load_contracts(tmp_path, ["sample"])
    operation_ = contract.document["paths"]["/things"]["get"]
    assert operation_["parameters"][0]["schema"]["enum"] == ["no", "12:30", "2026-01-01", "0777", "1_000", "off"]
    assert operation_["responses"]["200"]["content"]["application/json"]["example"] == {
        "at": "2026-01-01", "ratio": 1000.0, "level": 3, "on": True, "none": None,
    }  # fmt: skip
    assert contract.base_path == "/v1/sample"
    assert lint([contract]) == []


def test_a_repeated_yaml_key(tmp_path: Path) -> None:
    write(tmp_path, sample=GOOD.replace("      summary: Sample\n", "      summary: Sample\n      summary: Again\n"))
    (fault,) = load(tmp_path, "sample")
    assert "the key 'summary' occurs twice" in fault
    assert "line 10" in fault


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    anchored = GOOD.replace("info: {title: Sample,", "info: &info {title: Sample,")
    write(tmp_path, sample=anchored + "x-info: {<<: *info, title: Other}\n")
    (contract,) = load_contracts(tmp_path, ["sample"])
    assert contract.document["x-info"] == {"title": "Other", "version": "1"}


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    write(tmp_path, sample=GOOD.replace("title: Sample", "title: !!python/object/apply:os.getcwd []"))
    (fault,) = load(tmp_path, "sample")
    assert "could not determine a constructor" in fault


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, broken="a: [", scalar="text", old=GOOD.replace("3.0.3", "2.0"))
    write(tmp_path, loose=GOOD.replace("summary: Sample", "sumary: Sample"), nowhere=GOOD.replace("/v1/sample/", "/"))
    faults = load(tmp_path, "broken", "scalar", "old", "loose", "nowhere", "absent")
    assert len(faults) == 6
    for name, part in (
        ("broken.yaml", "flow"),
        ("scalar.yaml", "is not a mapping"),
        ("old", "openapi must be 3.0.x"),
        ("loose", "paths/~1things/get: breaks the OpenAPI 3.0 schema"),
        ("nowhere", "servers[0].url must give a base path"),
        ("absent.yaml", "No such file"),
    ):
        assert any(fault.startswith(name) and part in fault for fault in faults), (name, faults)


def test_references_must_resolve(tmp_path: Path) -> None:
    content = document(
        {
            "/a": {"get": operation(parameters=[{"$ref": "#/components/parameters/Nope"}])},
            "/b": {"get": operation("b", parameters=[{"$ref": "common.yaml#/components/parameters/Nope"}])},
            "/c": {"get": operation("c", parameters=[{"$ref": "other.yaml#/components/parameters/X"}])},
        }
    )
    write(tmp_path, sample=content, common={"components": {}})
    assert load(tmp_path, "sample") == ["sample: common.yaml#/components/parameters/Nope does not exist"]
    del content["paths"]["/b"]
    write(tmp_path, sample=content)
    assert sorted(load(tmp_path, "sample")) == [
        "sample: $ref #/components/parameters/Nope does not resolve",
        "sample: $ref other.yaml#/components/parameters/X does not resolve",
    ]


def test_a_component_of_the_same_name_and_other_content(tmp_path: Path) -> None:
    shared = {"components": {"schemas": {"Text": {"type": "string", "maxLength": 9}}}}
    uses = [query("a", {"$ref": "common.yaml#/components/schemas/Text"})]
    content = document({"/a": {"get": operation(parameters=uses)}}, schemas={"Text": {"type": "integer"}})
    write(tmp_path, sample=content, common=shared)
    assert load(tmp_path, "sample") == [
        "sample: components/schemas/Text clashes with common.yaml: same name, other content"
    ]
    for same in ({"type": "string", "maxLength": 9}, {"$ref": "common.yaml#/components/schemas/Text"}):
        content["components"]["schemas"]["Text"] = same
        write(tmp_path, sample=content)
        (contract,) = load_contracts(tmp_path, ["sample"])
        assert contract.document["components"]["schemas"]["Text"] == {"type": "string", "maxLength": 9}


def test_the_same_path_in_two_contracts(tmp_path: Path) -> None:
    one = document({"/a/{id}": {"get": operation("one")}})
    two = document({"/a/{other}": {"get": operation("two")}})
    write(tmp_path, one=one, two=two)
    assert load(tmp_path, "one", "two") == ["two: GET /v1/sample/a/{other} is also in one"]


def test_two_contracts_may_share_a_prefix(tmp_path: Path) -> None:
    write(tmp_path, one=document({"/a": {"get": operation("one")}}), two=document({"/b": {"get": operation("two")}}))
    contracts = load_contracts(tmp_path, ["one", "two"])
    app = create_api(contracts, operations={"one": Recorder(), "two": Recorder()}, security={})
    paths = {resource.canonical for resource in app.router.resources()}
    assert {"/v1/sample/a", "/v1/sample/b"} <= paths


def test_start_up_lists_what_is_missing_on_both_sides() -> None:
    contracts = load_contracts(SAMPLES, ["orders"])
    with pytest.raises(ContractError) as caught:
        create_api(contracts, operations={"ping": Recorder(), "pong": Recorder()}, security={})
    assert set(caught.value.faults) == {
        "orders: GET /items: no handler for operationId listItems",
        "orders: POST /items: no handler for operationId createItem",
        "orders: GET /items/{item_id}: no handler for operationId getItem",
        "orders: DELETE /items/{item_id}: no handler for operationId deleteItem",
        "orders: PUT /items/{item_id}/photo: no handler for operationId putPhoto",
        "handler pong: no contract has this operationId",
        "security scheme bearerAuth: no security handler",
    }


def test_discriminator_mappings_to_the_shared_file(tmp_path: Path) -> None:
    kind = {"kind": {"type": "string", "enum": ["Card"]}}
    choice = {
        "oneOf": [{"$ref": "common.yaml#/components/schemas/Card"}],
        "discriminator": {"propertyName": "kind", "mapping": {"Card": "common.yaml#/components/schemas/Card"}},
    }
    content = document({"/a": {"post": body_operation(choice, {"kind": "Card"})}})
    write(tmp_path, sample=content, common={"components": {"schemas": {"Card": closed(kind, "kind")}}})
    contracts = load_contracts(tmp_path, ["sample"])
    assert lint(contracts) == []
