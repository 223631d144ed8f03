"""The contract lint: every rule refuses what it is for and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from contracts.runtime import lint, load_contracts
from tests.contract.runtime.harness import (
    REFUSED,
    SAMPLES,
    body_operation,
    closed,
    contract,
    document,
    json_content,
    operation,
    query,
)

TEXT = {"type": "string", "maxLength": 9}


def faults(content: dict[str, Any]) -> list[str]:
    return [fault.removeprefix("sample: ") for fault in lint([contract(content)])]


def get(path: str = "/things", **members: Any) -> dict[str, Any]:
    return document({path: {"get": operation(**members)}})


def without(name: str) -> dict[str, Any]:
    content = get()
    del content["paths"]["/things"]["get"][name]
    return content


def post(schema: dict[str, Any], example: Any = None, **schemas: Any) -> dict[str, Any]:
    return document({"/things": {"post": body_operation(schema, example)}}, schemas=schemas)


def path_parameter(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT, **members}


def test_a_good_contract_has_no_fault() -> None:
    assert lint(load_contracts(SAMPLES, ["orders"])) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (without("operationId"), "GET /things: needs a camelCase operationId"),
        (get(operationId="do_it"), "GET /things: needs a camelCase operationId"),
        (without("summary"), "GET /things: needs a summary"),
        (without("security"), "GET /things: needs security; a public operation says security: []"),
        (get(security=[{"none": []}]), "GET /things: security scheme none is not declared"),
        (get(servers=[{"url": "/x"}]), "GET /things: servers of an operation are not supported"),
        (get(path="/things/"), "/things/: must be segments of unreserved characters and {parameters}, without a trailing slash"),
        (get(path="/openapi.json"), "/openapi.json: is where the contract itself is served"),
        (get(path="/{id}"), "GET /{id}: path parameter id is not in both the path and the parameters"),
        (get(parameters=[path_parameter("id")]), "GET /things: path parameter id is not in both the path and the parameters"),
        (
            get(path="/{id}/{id}", parameters=[path_parameter("id")]), "GET /{id}/{id}: the path repeats a parameter",
        ),
        (get(parameters=[query("a", TEXT), query("a", TEXT, description="Again")]), "GET /things: parameter a occurs twice"),
        (get(parameters=[query("a", TEXT, style="deepObject")]), "GET /things: parameter a: style deepObject is not supported"),
        (get(parameters=[query("a", TEXT, allowReserved=True)]), "GET /things: parameter a: allowReserved and allowEmptyValue are not supported"),
        (get(parameters=[{"name": "Accept", "in": "header", "schema": TEXT}]), "GET /things: parameter Accept: OpenAPI ignores a header parameter of this name"),
        (get(parameters=[query("a", {"type": "string"})]), "GET /things: parameter a: schema: a string in a request needs maxLength"),
        (get(parameters=[query("a", {"type": "integer", "minimum": 0})]), "GET /things: parameter a: schema: an integer in a request needs minimum and maximum"),
        (get(parameters=[query("a", {"type": "number", "maximum": 0})]), "GET /things: parameter a: schema: a number in a request needs minimum and maximum"),
        (get(parameters=[query("a", {"type": "array", "maxItems": 2, "items": TEXT})]), "GET /things: parameter a: an array needs minItems: 1, because an empty array cannot be told from a blank item"),
        (get(parameters=[query("a", {"type": "array", "minItems": 1, "items": TEXT})]), "GET /things: parameter a: schema: an array in a request needs maxItems"),
        (get(parameters=[query("a", {"type": "array", "minItems": 1, "maxItems": 2, "items": closed({})})]), "GET /things: parameter a: items need a plain type"),
        (get(parameters=[query("a", {**TEXT, "nullable": True})]), "GET /things: parameter a: allOf, oneOf, anyOf, not and nullable are not supported in parameters"),
        (get(parameters=[query("a", TEXT, example="0123456789")]), "GET /things: parameter a: example #: must have at most 9 characters (maxLength)"),
        (get(parameters=[query("a", {**TEXT, "default": 1})]), "GET /things: parameter a: default #: must be of type string (type)"),
        (get(parameters=[query("a", {**TEXT, "format": "hostname"})]), "GET /things: parameter a: schema: format hostname is not checked by this runtime"),
        (get(parameters=[query("a", {**TEXT, "format": "typeid"})]), "GET /things: parameter a: schema: format typeid needs x-typeid-prefix"),
        (get(deprecated=True), "GET /things: a deprecated operation says since when: x-deprecated-at"),
        (get(**{"x-sunset": "soon"}), "GET /things: x-sunset must be a date"),
        (get(**{"x-max-body-bytes": 0}), "GET /things: x-max-body-bytes must be a positive integer"),
        (get(**{"x-openapi-router-controller": "our.module"}), "GET /things: x-openapi-router-controller names Python; handlers are bound by operationId alone"),
        (get(**{"x-raw-body": "yes"}), "GET /things: x-raw-body must be true or false"),
        (get(responses={"4XX": REFUSED}), "GET /things: needs a successful response"),
        (get(responses={"204": {"description": "a"}}), "GET /things: needs its 4xx responses (4XX covers all)"),
        (get(responses={"204": {"description": "a"}, "400": {"description": "a"}}), "GET /things: response 400: an error is application/problem+json"),
        (get(responses={"204": {"description": "a", "content": json_content({"type": "object"})}, "4XX": REFUSED}), "GET /things: response 204: has no content"),
        (get(responses={"200": {"description": "a", "content": {"application/json": {}}}, "4XX": REFUSED}), "GET /things: response 200: application/json needs a schema"),
        (get(responses={"200": {"description": "a", "content": {"application/json": {"schema": {"type": "object"}}}}, "4XX": REFUSED}), "GET /things: response 200: needs an example"),
        (get(responses={"200": {"description": "a", "content": json_content({"type": "object"}, [])}, "4XX": REFUSED}), "GET /things: response 200: example #: must be of type object (type)"),
        (post({"type": "object"}), "POST /things: requestBody: an object in a request needs additionalProperties: false"),
        (post({"type": "object", "additionalProperties": TEXT}), "POST /things: requestBody: a map in a request needs maxProperties"),
        (post(closed({"a": {}})), "POST /things: requestBody/properties/a: a schema in a request needs a type"),
        (post(closed({"a": {"type": "string"}})), "POST /things: requestBody/properties/a: a string in a request needs maxLength"),
        (post({"$ref": "#/components/schemas/A"}, A=closed({"a": {"type": "string"}})), "POST /things: schemas/A/properties/a: a string in a request needs maxLength"),
        (post({"allOf": [closed({}), closed({})]}), "POST /things: requestBody: allOf cannot be closed in a request; write the properties out"),
        (post({"oneOf": [closed({"a": TEXT}, "a"), closed({})]}), "POST /things: requestBody: oneOf in a request needs a discriminator"),
        (post(closed({}), {"a": 1}), "POST /things: example #/a: is not a known field (unknown)"),
        (post(closed({}), None, A={"type": "array", "items": {"$ref": "#/components/schemas/A", "nullable": True}}), "schemas/A/items: siblings of $ref are ignored; wrap it in allOf"),
        (post(closed({}), None, A={"type": "string", "readOnly": True, "writeOnly": True}), "schemas/A: readOnly and writeOnly exclude each other"),
        (post(closed({}), None, A={"oneOf": [closed({})], "discriminator": {"propertyName": "k"}}), "schemas/A: a discriminator needs oneOf or anyOf whose branches are all $ref"),
        (post(closed({}), None, B=closed({}), A={"oneOf": [{"$ref": "#/components/schemas/B"}], "discriminator": {"propertyName": "k"}}), "schemas/A: the mapping of a discriminator must lead to each branch, and nowhere else"),
        (post(closed({}), None, B=closed({}), A={"oneOf": [{"$ref": "#/components/schemas/B"}], "discriminator": {"propertyName": "k", "mapping": {"b": "#/components/schemas/B"}}}), "schemas/A: #/components/schemas/B must declare and require k"),
        (post(closed({}), None, A={"type": "integer", "example": "1"}), "schemas/A: example #: must be of type integer (type)"),
        (post(closed({}), None, A=closed({"a": {"type": "integer", "example": "1"}})), "schemas/A/properties/a: example #: must be of type integer (type)"),
    ],
)  # fmt: skip
def test_rules(content: dict[str, Any], fault: str) -> None:
    assert faults(content) == [fault]


def test_media_types_of_requests() -> None:
    for media_type, fault in (
        ("text/plain", "requestBody media type text/plain is not supported; x-raw-body: true reads it as bytes"),
        ("application/x-www-form-urlencoded", "form field a: files and objects need multipart/form-data"),
    ):
        content = post(closed({"a": {"type": "string", "format": "binary"}}))
        body = content["paths"]["/things"]["post"]["requestBody"]
        body["content"] = {media_type: {"schema": closed({"a": {"type": "string", "format": "binary"}}), "example": {}}}
        assert f"POST /things: {fault}" in faults(content)


def test_raw_bodies_need_no_schema() -> None:
    content = post(closed({}))
    operation_ = content["paths"]["/things"]["post"]
    operation_["requestBody"]["content"] = {"application/json": {}, "text/plain": {}}
    operation_["x-raw-body"] = True
    assert faults(content) == []


def test_operation_ids_are_unique_across_contracts() -> None:
    one = contract(get(), "one")
    other = get()
    other["servers"] = [{"url": "/v1/other"}]
    two = contract(other, "two")
    assert lint([one, two]) == ["two: GET /things: operationId sample is also in one"]


def test_a_component_is_told_once() -> None:
    schema = {"$ref": "#/components/schemas/A"}
    content = post(schema, None, A=closed({"a": {"type": "string"}}))
    content["paths"]["/others"] = {"post": body_operation(schema, operationId="others")}
    assert len(faults(content)) == 1


def test_faults_do_not_change_the_contract() -> None:
    content = post({"type": "object"})
    made = contract(content)
    before = copy.deepcopy(made.document)
    lint([made])
    assert made.document == before
