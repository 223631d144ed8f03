"""The contract lint: what a contract must say, and what it must not, before it is served."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from contracts.runtime.body import FORMS, JSON, MULTIPART, is_json
from contracts.runtime.headers import REALTIME_CURSOR
from contracts.runtime.loading import Contract
from contracts.runtime.problem import MEDIA_TYPE
from contracts.runtime.schema_lint import SchemaLint

_OPERATION_ID = re.compile(r"[a-z][A-Za-z0-9]*")
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~:-]|\{[A-Za-z0-9_.-]+\})+)+")
_STYLES = {"query": "form", "cookie": "form", "path": "simple", "header": "simple"}
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
# OpenAPI 3.0.3 section 4.7.12.1: parameters of these names are ignored.
_IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})
_BODILESS = frozenset({"get", "head", "delete", "options", "trace"})
_CONTROLLER = "x-openapi-router-controller"
_RESERVED_PATH = "/openapi.json"


def lint(contracts: Sequence[Contract]) -> list[str]:
    """Every fault of the contracts by themselves, each with its place; an empty list when there is none."""
    faults: list[str] = []
    owners: dict[str, str] = {}
    for contract in contracts:
        faults.extend(f"{contract.name}: {fault}" for fault in _ContractLint(contract).faults())
        for method, path, operation in contract.operations():
            name = operation.get("operationId")
            if name in owners:
                faults.append(f"{contract.name}: {method.upper()} {path}: operationId {name} is also in {owners[name]}")
            elif name:
                owners[name] = contract.name
    return faults


def cursor_told(contract: Contract, operation: Mapping[str, Any]) -> list[bool]:
    """For each successful response of an operation, whether it has the header Realtime-Cursor."""
    responses = [contract.resolve(node) for status, node in operation["responses"].items() if status[0] == "2"]
    return [REALTIME_CURSOR in response.get("headers", {}) for response in responses]


def binding_faults(
    contracts: Sequence[Contract], operations: Mapping[str, Any], security: Mapping[str, Any], *, cursor: bool
) -> list[str]:
    """Operations without handlers, handlers without operations, schemes without handlers, cursors without a source."""
    faults = []
    known: set[str] = set()
    schemes: set[str] = set()
    for contract in contracts:
        default = contract.document.get("security", ())
        for method, path, operation in contract.operations():
            name = operation.get("operationId")
            if name is not None and name not in operations:
                faults.append(f"{contract.name}: {method.upper()} {path}: no handler for operationId {name}")
            known.add(str(name))
            if not cursor and any(cursor_told(contract, operation)):
                place = f"{contract.name}: {method.upper()} {path}"
                faults.append(f"{place}: {REALTIME_CURSOR} needs RuntimeOptions.cursor")
            for alternative in operation.get("security", default):
                schemes.update(alternative)
    faults.extend(f"handler {name}: no contract has this operationId" for name in sorted(operations.keys() - known))
    faults.extend(f"security scheme {name}: no security handler" for name in sorted(schemes - security.keys()))
    return faults


class _ContractLint:
    """The rules, applied to one contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._document = contract.document
        self._resolve = contract.resolve
        self._schemas = SchemaLint(contract)

    def faults(self) -> Iterator[str]:
        yield from self._schemas.component_faults()
        yield from self._scheme_faults()
        for path, item in self._document["paths"].items():
            if _PATH.fullmatch(path) is None:
                yield f"{path}: must be segments of unreserved characters and {{parameters}}, without a trailing slash"
            if path == _RESERVED_PATH:
                yield f"{path}: is where the contract itself is served"
            for key in item.keys() & {"servers", "$ref"}:
                yield f"{path}: {key} of a path is not supported"
        for method, path, operation in self._contract.operations():
            place = f"{method.upper()} {path}"
            for fault in self._operation_faults(method, path, operation):
                yield f"{place}: {fault}"

    def _scheme_faults(self) -> Iterator[str]:
        for name, node in self._document["components"].get("securitySchemes", {}).items():
            scheme = self._resolve(node)
            if scheme["type"] == "http" and scheme["scheme"].lower() not in ("bearer", "basic"):
                yield f"securitySchemes/{name}: http scheme {scheme['scheme']} is not supported"

    def _operation_faults(self, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        name = operation.get("operationId")
        if name is None or _OPERATION_ID.fullmatch(name) is None:
            yield "needs a camelCase operationId"
        if not operation.get("summary"):
            yield "needs a summary"
        if "servers" in operation:
            yield "servers of an operation are not supported"
        if _CONTROLLER in operation:
            yield f"{_CONTROLLER} names Python; handlers are bound by operationId alone"
        yield from self._security_faults(operation)
        yield from self._parameter_faults(path, operation)
        if "requestBody" in operation:
            yield from self._body_faults(method, operation, self._resolve(operation["requestBody"]))
        yield from self._response_faults(operation)
        yield from _extension_faults(operation)

    def _security_faults(self, operation: Mapping[str, Any]) -> Iterator[str]:
        alternatives = operation.get("security", self._document.get("security"))
        if alternatives is None:
            yield "needs security; a public operation says security: []"
            return
        declared = self._document["components"].get("securitySchemes", {})
        for alternative in alternatives:
            for name in alternative.keys() - declared.keys():
                yield f"security scheme {name} is not declared"

    def _parameter_faults(self, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        item = self._document["paths"][path]
        templates = _TEMPLATE.findall(path)
        if len(set(templates)) < len(templates):
            yield "the path repeats a parameter"
        merged = {}
        for nodes in (item.get("parameters", ()), operation.get("parameters", ())):
            level = set()
            for node in nodes:
                parameter = self._resolve(node)
                key = (parameter["in"], parameter["name"].lower())
                if key in level:
                    yield f"parameter {parameter['name']} occurs twice"
                level.add(key)
                merged[key] = parameter
        given = {parameter["name"] for parameter in merged.values() if parameter["in"] == "path"}
        for name in sorted(set(templates) ^ given):
            yield f"path parameter {name} is not in both the path and the parameters"
        for parameter in merged.values():
            for fault in self._one_parameter_faults(parameter):
                yield f"parameter {parameter['name']}: {fault}"

    def _one_parameter_faults(self, parameter: Mapping[str, Any]) -> Iterator[str]:
        place = parameter["in"]
        if "schema" not in parameter:
            yield "needs a schema; content is not supported"
            return
        if place == "header" and parameter["name"].lower() in _IGNORED_HEADERS:
            yield "OpenAPI ignores a header parameter of this name"
        if place == "path" and not parameter.get("required"):
            yield "a path parameter is required: true"
        if parameter.get("style", _STYLES[place]) != _STYLES[place]:
            yield f"style {parameter['style']} is not supported"
        if parameter.get("allowReserved") or parameter.get("allowEmptyValue"):
            yield "allowReserved and allowEmptyValue are not supported"
        schema = self._resolve(parameter["schema"])
        kind = schema.get("type")
        if kind == "array":
            if self._resolve(schema.get("items", {})).get("type") not in _SCALARS:
                yield "items need a plain type"
                return
            if schema.get("minItems", 0) < 1:
                yield "an array needs minItems: 1, because an empty array cannot be told from a blank item"
        elif kind not in _SCALARS:
            yield "needs a plain type (string, integer, number, boolean or an array of these)"
            return
        if schema.get("nullable") or any(keyword in schema for keyword in ("allOf", "oneOf", "anyOf", "not")):
            yield "allOf, oneOf, anyOf, not and nullable are not supported in parameters"
        yield from self._schemas.request_faults(parameter["schema"], "")
        yield from self._schemas.example_faults(parameter, parameter["schema"], "request")
        if "default" in schema:
            yield from self._schemas.value_faults("default", schema["default"], parameter["schema"], "request")

    def _body_faults(self, method: str, operation: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
        if method in _BODILESS:
            yield f"{method.upper()} has no request body"
        content = body["content"]
        if operation.get("x-raw-body"):
            if not content:
                yield "requestBody needs a media type"
            return
        if len(content) != 1:
            yield "requestBody needs exactly one media type"
            return
        media_type, media = next(iter(content.items()))
        if media_type.lower() not in FORMS and not is_json(media_type.lower()):
            yield f"requestBody media type {media_type} is not supported; x-raw-body: true reads it as bytes"
        if "schema" not in media:
            yield "requestBody needs a schema"
            return
        yield from self._schemas.request_faults(media["schema"], "requestBody")
        if media_type.lower() in FORMS:
            yield from self._form_faults(media_type.lower(), media)
        else:
            yield from self._schemas.example_faults(media, media["schema"], "request", required=True)

    def _form_faults(self, media_type: str, media: Mapping[str, Any]) -> Iterator[str]:
        schema = self._resolve(media["schema"])
        if schema.get("type") != "object" or "properties" not in schema:
            yield "a form needs a schema of type object with properties"
            return
        for name, node in schema["properties"].items():
            child = self._resolve(node)
            item = self._resolve(child.get("items", {})) if child.get("type") == "array" else child
            is_file = item.get("format") == "binary"
            is_object = item.get("type") == "object"
            if (is_file or is_object) and media_type != MULTIPART:
                yield f"form field {name}: files and objects need {MULTIPART}"
            elif not is_object and item.get("type") not in _SCALARS:
                yield f"form field {name}: needs a plain type"

    def _response_faults(self, operation: Mapping[str, Any]) -> Iterator[str]:
        responses = operation["responses"]
        if not any(status[0] in "123" for status in responses):
            yield "needs a successful response"
        if not any(status[0] == "4" or status == "default" for status in responses):
            yield "needs its 4xx responses (4XX covers all)"
        if len(set(cursor_told(self._contract, operation))) > 1:
            yield f"{REALTIME_CURSOR} is on all successful responses or on none"
        for status, node in responses.items():
            response = self._resolve(node)
            for fault in self._one_response_faults(status, response):
                yield f"response {status}: {fault}"

    def _one_response_faults(self, status: str, response: Mapping[str, Any]) -> Iterator[str]:
        content = response.get("content", {})
        if status[0] in "45" or status == "default":
            if set(content) != {MEDIA_TYPE}:
                yield f"an error is {MEDIA_TYPE}"
        elif status in ("204", "304") and content:
            yield "has no content"
        for media_type, media in content.items():
            if not is_json(media_type):
                continue
            if "schema" not in media:
                yield f"{media_type} needs a schema"
                continue
            yield from self._schemas.response_faults(media["schema"], media_type)
            needed = status[0] == "2" and media_type == JSON
            yield from self._schemas.example_faults(media, media["schema"], "response", required=needed)


def _extension_faults(operation: Mapping[str, Any]) -> Iterator[str]:
    limit = operation.get("x-max-body-bytes", 1)
    if not isinstance(limit, int) or limit < 1:
        yield "x-max-body-bytes must be a positive integer"
    if not isinstance(operation.get("x-raw-body", False), bool):
        yield "x-raw-body must be true or false"
    if operation.get("deprecated") and "x-deprecated-at" not in operation:
        yield "a deprecated operation says since when: x-deprecated-at"
    for name in ("x-deprecated-at", "x-sunset"):
        try:
            date.fromisoformat(str(operation.get(name, "2000-01-01")))
        except ValueError:
            yield f"{name} must be a date"
