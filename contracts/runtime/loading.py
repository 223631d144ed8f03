"""Read contract files: strict YAML, bundled with the shared components, checked against OpenAPI 3.0."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import jsonschema_rs
import yaml

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
SHARED_FILE = "common.yaml"
_SHARED_REFERENCE = re.compile(re.escape(SHARED_FILE) + r"#/components/([A-Za-z]+)/([A-Za-z0-9._-]+)")
_LOCAL_REFERENCE = re.compile(r"#/components/([A-Za-z]+)/([A-Za-z0-9._-]+)")


class ContractError(Exception):
    """The contracts cannot be served; `faults` lists everything found."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(f"{len(self.faults)} fault(s) in the contracts:\n{lines}")


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """One bundled OpenAPI 3.0 document.

    `base_path` is the path of `servers[0].url`, without a trailing slash; `shared` names the components that came from
    the shared file, as (kind, name).
    """

    name: str
    document: dict[str, Any]
    base_path: str
    shared: frozenset[tuple[str, str]]

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (method, path, operation) in document order, the path relative to the base path."""
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method, path, item[method]

    def resolve(self, node: Any) -> Any:
        """Follow the `$ref` of a node, if it has one, until it does not."""
        while isinstance(node, dict) and "$ref" in node:
            match = _LOCAL_REFERENCE.fullmatch(node["$ref"])
            if match is None:
                raise ContractError([f"{self.name}: unsupported $ref {node['$ref']}"])
            node = self.document["components"][match[1]][match[2]]
        return node


class _Loader(yaml.CSafeLoader):
    """YAML 1.2 core schema: no dates, no yes/no, no octal or sexagesimal numbers; string keys, each once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key_node, _value_node in node.value:
            if key_node.value in keys:
                fault = f"the key {key_node.value!r} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, fault, key_node.start_mark)
            keys.add(key_node.value)
        # What a merge key brings comes first, so that the mapping's own keys win.
        self.flatten_mapping(node)
        return {key_node.value: self.construct_object(value_node, deep=True) for key_node, value_node in node.value}


def _construct_map(loader: _Loader, node: Any) -> dict[Hashable, Any]:
    return loader.construct_mapping(node)


# The class would inherit the resolvers of YAML 1.1, which read 12:30 as 750 and no as false.
_Loader.yaml_implicit_resolvers = {}
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", "n~"),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", "-0123456789"),
    ("merge", r"<<", "<"),
):
    _characters = [*_first, ""] if _tag == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _characters)


def load_contracts(directory: Path, names: Sequence[str]) -> list[Contract]:
    """Read `<name>.yaml` for every name and the shared file beside them.

    Each is a complete OpenAPI 3.0 document whose base path is the path of `servers[0].url`. References to
    `common.yaml#/components/...` are inlined into the document's own components. Raises ContractError with all faults.
    """
    faults: list[str] = []
    shared_path = directory / SHARED_FILE
    shared = _read(shared_path, faults) if shared_path.exists() else {}
    contracts = []
    for name in names:
        document = _read(directory / f"{name}.yaml", faults)
        if document:
            contracts.append(make_contract(name, document, shared=shared, faults=faults))
    faults.extend(_duplicates([contract for contract in contracts if contract.base_path]))
    if faults:
        raise ContractError(faults)
    return contracts


def make_contract(
    name: str, document: dict[str, Any], *, shared: dict[str, Any] | None = None, faults: list[str] | None = None
) -> Contract:
    """Bundle and check one document; faults go to the list when one is given, else they raise ContractError."""
    found: list[str] = []
    used = _bundle(document, shared or {}, found)
    document.setdefault("components", {})
    found.extend(_structure_faults(document))
    if not found:
        found.extend(_reference_faults(document))
    base_path = "" if found else _base_path(document, found)
    if found and faults is None:
        raise ContractError([f"{name}: {fault}" for fault in found])
    if faults is not None:
        faults.extend(f"{name}: {fault}" for fault in found)
    document.setdefault("paths", {})
    return Contract(name, document, base_path, frozenset(used))


def read_yaml(source: bytes) -> Any:
    """Read YAML 1.2 in which no key occurs twice. Raises yaml.YAMLError."""
    # A subclass of the C safe loader: nothing but plain data can be constructed.
    return yaml.load(source, Loader=_Loader)  # noqa: S506


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        document = read_yaml(path.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        faults.append(f"{path.name}: {' '.join(str(error).split())}")
        return {}
    if not isinstance(document, dict):
        faults.append(f"{path.name}: is not a mapping")
        return {}
    return document


def _bundle(document: dict[str, Any], shared: dict[str, Any], faults: list[str]) -> set[tuple[str, str]]:
    """Inline what the document uses of the shared components; returns their (kind, name) pairs."""
    components = document.setdefault("components", {})
    used: set[tuple[str, str]] = set()
    pending = _localise(document)
    while pending:
        kind, name = pending.pop()
        if (kind, name) in used:
            continue
        used.add((kind, name))
        content = shared.get("components", {}).get(kind, {}).get(name)
        if content is None:
            faults.append(f"{SHARED_FILE}#/components/{kind}/{name} does not exist")
            continue
        section = components.setdefault(kind, {})
        own = section.get(name)
        if own is not None and own != content and own != {"$ref": f"#/components/{kind}/{name}"}:
            faults.append(f"components/{kind}/{name} clashes with {SHARED_FILE}: same name, other content")
        section[name] = content
        pending.extend(_local_references(content))
    return used


def _localise(node: Any) -> list[tuple[str, str]]:
    """Rewrite references to the shared file into local ones, in place; returns what they name."""
    found: list[tuple[str, str]] = []
    stack = [node]
    while stack:
        current = stack.pop()
        items = current.items() if isinstance(current, dict) else enumerate(current)
        for key, value in items:
            if isinstance(value, dict | list):
                stack.append(value)
            elif isinstance(value, str) and (match := _SHARED_REFERENCE.fullmatch(value)):
                current[key] = value[len(SHARED_FILE) :]
                found.append((match[1], match[2]))
    return found


def _local_references(node: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of every component a node refers to."""
    stack = [node]
    while stack:
        current = stack.pop()
        for value in current.values() if isinstance(current, dict) else current:
            if isinstance(value, dict | list):
                stack.append(value)
            elif isinstance(value, str) and (match := _LOCAL_REFERENCE.fullmatch(value)):
                yield match[1], match[2]


@cache
def _openapi_schema() -> jsonschema_rs.Validator:
    """The OpenAPI 3.0 schema that connexion ships, compiled once."""
    text = cast(bytes, pkgutil.get_data("connexion", "resources/schemas/v3.0/schema.json"))
    return jsonschema_rs.Draft4Validator(json.loads(text))


def _structure_faults(document: dict[str, Any]) -> list[str]:
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith("3.0."):
        return ["openapi must be 3.0.x"]
    faults = []
    for error in _openapi_schema().iter_errors(document):
        leaf = _deepest(error)
        place = "/".join(str(step).replace("/", "~1") for step in leaf.instance_path)
        faults.append(f"{place or 'document'}: breaks the OpenAPI 3.0 schema: {leaf.message[:200]}")
    return faults


def _deepest(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """The error that went furthest before an alternative (a schema, or a reference) was given up."""
    leaves = []
    stack = [error]
    while stack:
        current = stack.pop()
        branches = getattr(current.kind, "context", None)
        if branches:
            stack.extend(inner for branch in branches for inner in branch)
        else:
            leaves.append(current)
    return max(leaves, key=lambda leaf: (len(leaf.instance_path), leaf.kind.name != "required"))


def _reference_faults(document: dict[str, Any]) -> list[str]:
    faults = []
    stack: list[Any] = [document]
    while stack:
        current = stack.pop()
        if isinstance(current, list):
            stack.extend(item for item in current if isinstance(item, dict | list))
            continue
        reference = current.get("$ref")
        if isinstance(reference, str):
            match = _LOCAL_REFERENCE.fullmatch(reference)
            if match is None or match[2] not in document["components"].get(match[1], {}):
                faults.append(f"$ref {reference} does not resolve")
        stack.extend(value for value in current.values() if isinstance(value, dict | list))
    return faults


def _base_path(document: dict[str, Any], faults: list[str]) -> str:
    servers = document.get("servers") or []
    match = re.fullmatch(r"(?:https?://[^/]+)?(/[A-Za-z0-9._~/-]*)", servers[0]["url"]) if servers else None
    base_path = match[1].rstrip("/") if match else ""
    if not base_path:
        faults.append("servers[0].url must give a base path such as /v1/wallet")
    return base_path


def _duplicates(contracts: Sequence[Contract]) -> list[str]:
    seen: dict[tuple[str, str], str] = {}
    faults = []
    for contract in contracts:
        for method, path, _operation in contract.operations():
            key = (method, re.sub(r"\{[^}]*\}", "{}", contract.base_path + path))
            if key in seen:
                faults.append(f"{contract.name}: {method.upper()} {contract.base_path}{path} is also in {seen[key]}")
            seen[key] = contract.name
    return faults
