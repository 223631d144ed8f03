"""Contracts mounted on one aiohttp application, through connexion."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from contracts.runtime.body import defer_expectation
from contracts.runtime.call import Handler, SecurityHandler
from contracts.runtime.compiling import OperationCompiler
from contracts.runtime.cors import Cors
from contracts.runtime.docs import add_documentation
from contracts.runtime.edge import Edge
from contracts.runtime.lint import binding_faults, lint
from contracts.runtime.loading import Contract, ContractError
from contracts.runtime.operation import Operation
from contracts.runtime.options import RuntimeOptions

with warnings.catch_warnings():
    # connexion 2.15 imports names that jsonschema deprecates; it is the last 2.x line, so nobody will change that.
    warnings.simplefilter("ignore", DeprecationWarning)
    from connexion.apis.aiohttp_api import AioHttpApi
    from connexion.json_schema import resolve_refs
    from connexion.operations import OpenAPIOperation
    from connexion.options import ConnexionOptions
    from connexion.resolver import Resolver
    from connexion.spec import OpenAPISpecification

_PATH_PARAMETER = re.compile(r"\{([^}]*)\}")


class ContractOperation(OpenAPIOperation):
    """A connexion operation whose function is the handler itself: the decorator pipeline is ours."""

    @property
    def function(self) -> Handler:
        """The handler the resolver found."""
        handler: Handler = self._resolution.function
        return handler


class ContractSpecification(OpenAPISpecification):
    """A specification that `loading` has checked already, against the same schema, compiled."""

    operation_cls = ContractOperation

    def __init__(self, raw_spec: dict[str, Any]) -> None:
        self._raw_spec = raw_spec
        self._spec = resolve_refs(raw_spec)


class ContractApi(AioHttpApi):
    """One contract, its operations resolved by connexion and routed on the application that is handed in.

    The application is shared by all contracts, so routes outside a contract may live under the same prefix, and a
    second contract on a prefix is reachable. The initialiser does what AbstractAPI's does, without the Jinja
    environment, the specification routes, the console and the middlewares that belong to the replaced pipeline.
    """

    def __init__(
        self, contract: Contract, *, app: web.Application, resolver: Resolver, compiler: OperationCompiler, cors: Cors
    ) -> None:
        self.subapp = app
        self.debug = False
        self.validator_map = self.resolver_error_handler = self.pass_context_arg_name = None
        self.validate_responses = self.strict_validation = self.pythonic_params = False
        self.resolver = resolver
        self.specification = ContractSpecification(contract.document)
        self.options = ConnexionOptions(
            {"swagger_ui": False, "serve_spec": False}, oas_version=self.specification.version
        )
        self._set_base_path(contract.base_path)
        self._compiler = compiler
        self._compiled: dict[str, list[Operation]] = {}
        self.add_paths({path: self.specification["paths"][path] for path in _most_specific_first(contract)})
        for route, operations in self._compiled.items():
            methods = {"OPTIONS", *(operation.method for operation in operations)}
            if "GET" in methods:
                methods.add("HEAD")
            allowed = frozenset[str]().union(*(operation.allowed_headers for operation in operations))
            app.router.add_route("OPTIONS", route, cors.options_handler(methods, allowed))

    def _add_operation_internal(self, method: str, path: str, operation: ContractOperation) -> None:
        keys: dict[str, str] = {}

        def name_of(match: re.Match[str]) -> str:
            # Any name the contract uses becomes one that aiohttp's router accepts.
            keys[match[1]] = f"p{len(keys)}"
            return "{" + keys[match[1]] + "}"

        route = self.base_path + _PATH_PARAMETER.sub(name_of, path)
        compiled = self._compiler.compile(
            path, method, operation.function, path_keys=keys, security=operation.security,
            schemes=operation.security_schemes,
        )  # fmt: skip
        handle = compiled.handle
        for name in ("GET", "HEAD") if method == "get" else (method.upper(),):
            self.subapp.router.add_route(name, route, handle, expect_handler=defer_expectation)
        self._compiled.setdefault(route, []).append(compiled)


def _most_specific_first(contract: Contract) -> list[str]:
    """Paths in the order the router must try them: literal segments before parameters (OpenAPI 3.0.3, 4.7.8.2)."""
    return sorted(
        contract.document["paths"],
        key=lambda path: [
            (segment.startswith("{") and segment.endswith("}"), "{" in segment, -len(segment))
            for segment in path.split("/")
        ],
    )


def create_api(
    contracts: Sequence[Contract],
    *,
    operations: Mapping[str, Handler],
    security: Mapping[str, SecurityHandler],
    options: RuntimeOptions | None = None,
    extra_routes: Iterable[web.AbstractRouteDef] = (),
) -> web.Application:
    """Build the application that serves the contracts, their documents and the extra routes.

    Everything is compiled here; raises ContractError with every fault found. Extra routes get the same problem
    documents, identity and common headers as operations.
    """
    options = options or RuntimeOptions()
    faults = [*lint(contracts), *binding_faults(contracts, operations, security, cursor=options.cursor is not None)]
    if faults:
        raise ContractError(faults)
    edge = Edge(options)
    app = web.Application(middlewares=[edge.middleware], client_max_size=options.max_body_bytes)
    app.on_response_prepare.append(edge.on_prepare)
    resolver = Resolver(operations.__getitem__)
    cors = Cors(options)
    for contract in contracts:
        compiler = OperationCompiler(contract, security=security, options=options)
        ContractApi(contract, app=app, resolver=resolver, compiler=compiler, cors=cors)
    add_documentation(app, contracts, options)
    app.add_routes(extra_routes)
    return app
