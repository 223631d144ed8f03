"""From an operation object of a contract to a compiled operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs

from contracts.runtime.body import BodyReader
from contracts.runtime.call import Handler, SecurityHandler
from contracts.runtime.headers import common_headers, deprecation_headers
from contracts.runtime.lint import cursor_told
from contracts.runtime.loading import Contract
from contracts.runtime.operation import DEFAULT_ALLOWED_HEADERS, EVENT_STREAM, Operation
from contracts.runtime.options import RuntimeOptions
from contracts.runtime.parameters import ParameterReader, make_field
from contracts.runtime.responses import Responder, document_responses
from contracts.runtime.schema import SchemaSet
from contracts.runtime.security import Guard, Requirement, Scheme, make_scheme


def parameters_of(contract: Contract, path: str, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Resolved parameters of an operation; its own override those of the path with the same place and name."""
    item = contract.document["paths"][path]
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for node in (*item.get("parameters", ()), *operation.get("parameters", ())):
        parameter = contract.resolve(node)
        merged[(parameter["in"], parameter["name"].lower())] = parameter
    return list(merged.values())


class OperationCompiler:
    """Compiles the operations of one contract."""

    def __init__(self, contract: Contract, *, security: Mapping[str, SecurityHandler], options: RuntimeOptions) -> None:
        schemas = contract.document["components"].get("schemas", {})
        self._contract = contract
        self._handlers = security
        self._options = options
        self._requests = SchemaSet(schemas, "request")
        self._responses = SchemaSet(schemas, "response") if options.response_validation != "off" else None
        self._schemes: dict[str, Scheme] = {}

    def compile(
        self, path: str, method: str, handler: Handler, *, path_keys: Mapping[str, str],
        security: Sequence[Mapping[str, Sequence[str]]] | None, schemes: Mapping[str, Any],
    ) -> Operation:  # fmt: skip
        """Compile one operation; `path_keys` maps its path parameters to the names the router knows them by."""
        contract, options = self._contract, self._options
        operation = contract.document["paths"][path][method]
        parameters = parameters_of(contract, path, operation)
        body = contract.resolve(operation.get("requestBody"))
        produced = self._produced(operation)
        headers = common_headers(options) | deprecation_headers(operation)
        documented = (
            document_responses(operation["responses"], self._responses, resolve=contract.resolve)
            if self._responses is not None
            else {}
        )
        return Operation(
            id=operation["operationId"],
            method=method.upper(),
            route=contract.base_path + path,
            handler=handler,
            guard=self._guard(security or (), schemes),
            parameters=self._reader(parameters, path_keys, security or (), schemes),
            body=self._body(operation, body),
            validator=self._validator(parameters, operation, body),
            responder=Responder(operation["operationId"], options, headers=headers, documented=documented),
            produced=produced,
            streams=EVENT_STREAM in produced,
            headers=headers,
            allowed_headers=DEFAULT_ALLOWED_HEADERS | {p["name"] for p in parameters if p["in"] == "header"},
            cursor=options.cursor if any(cursor_told(contract, operation)) else None,
        )

    def _produced(self, operation: Mapping[str, Any]) -> frozenset[str]:
        """Media types of the successful answers."""
        responses = (
            self._contract.resolve(node) for status, node in operation["responses"].items() if status[0] == "2"
        )
        return frozenset(media_type.lower() for response in responses for media_type in response.get("content", ()))

    def _guard(self, security: Sequence[Mapping[str, Sequence[str]]], declarations: Mapping[str, Any]) -> Guard | None:
        if not security:
            return None
        alternatives = [
            [
                Requirement(self._scheme(name, declarations), tuple(scopes), frozenset(scopes))
                for name, scopes in alternative.items()
            ]
            for alternative in security
        ]
        return Guard(alternatives, realm=self._options.title)

    def _scheme(self, name: str, declarations: Mapping[str, Any]) -> Scheme:
        if name not in self._schemes:
            declaration = self._contract.resolve(declarations[name])
            self._schemes[name] = make_scheme(name, declaration, self._handlers[name])
        return self._schemes[name]

    def _reader(
        self, parameters: Sequence[Mapping[str, Any]], path_keys: Mapping[str, str],
        security: Sequence[Mapping[str, Sequence[str]]], declarations: Mapping[str, Any],
    ) -> ParameterReader:  # fmt: skip
        used = [self._contract.resolve(declarations[name]) for alternative in security for name in alternative]
        keys_in_query = frozenset(scheme["name"] for scheme in used if scheme.get("in") == "query")
        fields = [make_field(parameter, self._contract.resolve) for parameter in parameters]
        return ParameterReader(fields, path_keys=path_keys, ignored_query=keys_in_query)

    def _body(self, operation: Mapping[str, Any], body: Mapping[str, Any] | None) -> BodyReader | None:
        if body is None:
            return None
        return BodyReader(
            body["content"],
            required=bool(body.get("required", False)),
            raw=bool(operation.get("x-raw-body", False)),
            limit=int(operation.get("x-max-body-bytes", self._options.max_body_bytes)),
            timeout_s=self._options.body_timeout_s,
            depth=self._options.json_depth,
            resolve=self._contract.resolve,
        )

    def _validator(
        self, parameters: Sequence[Mapping[str, Any]], operation: Mapping[str, Any], body: Mapping[str, Any] | None
    ) -> jsonschema_rs.Validator | None:
        """One validator for the whole request, so that one call finds every fault and its place."""
        places: dict[str, dict[str, Any]] = {}
        for parameter in parameters:
            place = places.setdefault(parameter["in"], {})
            place[parameter["name"]] = self._requests.translate(parameter["schema"])
        properties: dict[str, Any] = {name: {"properties": place} for name, place in places.items()}
        if body is not None and not operation.get("x-raw-body"):
            media = next(iter(body["content"].values()))
            properties["body"] = self._requests.translate(media["schema"])
        return self._requests.compile({"properties": properties}) if properties else None
