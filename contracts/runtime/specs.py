"""The contracts as clients may read them: no internal keys, one document each and one of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.runtime.formats import PATTERNS, TYPEID, TYPEID_PREFIX, typeid_pattern
from contracts.runtime.loading import METHODS, Contract
from contracts.runtime.options import RuntimeOptions

PUBLIC_EXTENSIONS = frozenset(
    {
        "x-deprecated-at",
        "x-extensible-enum",
        "x-max-body-bytes",
        "x-rate-limit",
        "x-sunset",
        "x-typeid-prefix",
        "x-webhooks",
    }
)
# Objects whose keys are names that the contract chose, so that an "x-" there is no extension.
_NAME_MAPS = frozenset(
    {
        "callbacks", "content", "encoding", "examples", "headers", "links", "mapping", "parameters", "properties",
        "requestBodies", "responses", "schemas", "scopes", "securitySchemes", "variables",
    }
)  # fmt: skip
_DATA = frozenset({"example", "default", "enum", "value"})


def public_document(contract: Contract) -> dict[str, Any]:
    """The contract without the keys that are nobody else's business."""
    document: dict[str, Any] = _public(contract.document, names=False)
    return document


def _public(node: Any, *, names: bool) -> Any:
    if isinstance(node, list):
        return [_public(item, names=False) for item in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for key, child in node.items():
        if not names and key.startswith("x-") and key not in PUBLIC_EXTENSIONS:
            continue
        if not names and key in _DATA:
            result[key] = child
        else:
            result[key] = _public(child, names=not names and key in _NAME_MAPS)
    if not names and (pattern := _pattern(node)) is not None:
        result.setdefault("pattern", pattern)
    return result


def _pattern(node: Mapping[str, Any]) -> str | None:
    """The pattern of a format of our own, which no client can know by its name."""
    name = node.get("format")
    if name == TYPEID and TYPEID_PREFIX in node:
        return typeid_pattern(node[TYPEID_PREFIX])
    return PATTERNS["decimal"] if name == "decimal" else None


def shared_prefix(contracts: Sequence[Contract]) -> str:
    """The first path segment when all contracts have the same, such as /v1; else nothing."""
    firsts = {contract.base_path.split("/")[1] for contract in contracts}
    return f"/{firsts.pop()}" if len(firsts) == 1 else ""


def combined_document(
    contracts: Sequence[Contract], documents: Sequence[dict[str, Any]], options: RuntimeOptions
) -> dict[str, Any]:
    """All contracts as one document, from the public document of each.

    Components of the same name keep it when they came from the shared file; the others get their contract's name in
    front, if another contract has one of that name too.
    """
    prefix = shared_prefix(contracts)
    paths: dict[str, Any] = {}
    components: dict[str, dict[str, Any]] = {}
    tags: dict[str, dict[str, Any]] = {}
    clashes = _clashes(contracts)
    for contract, public in zip(contracts, documents, strict=True):
        document = _rename(public, contract, clashes)
        # What a document says for all its operations must be said by each when it stands beside others.
        common = {"security": document["security"]} if "security" in document else {}
        for path, item in document["paths"].items():
            paths[contract.base_path.removeprefix(prefix) + path] = item | {
                method: common | item[method] for method in METHODS if method in item
            }
        for kind, section in document["components"].items():
            components.setdefault(kind, {}).update(section)
        for tag in document.get("tags", ()):
            tags.setdefault(tag["name"], tag)
    info = {"title": options.title, "version": options.version, "description": options.description}
    combined: dict[str, Any] = {"openapi": "3.0.3", "info": info}
    if prefix:
        combined["servers"] = [{"url": prefix}]
    return combined | {"tags": list(tags.values()), "paths": paths, "components": components}


def _clashes(contracts: Sequence[Contract]) -> set[tuple[str, str]]:
    """(kind, name) of components that several contracts define for themselves."""
    seen: set[tuple[str, str]] = set()
    clashes = set()
    shared = frozenset[tuple[str, str]]().union(*(contract.shared for contract in contracts))
    for contract in contracts:
        for kind, section in contract.document["components"].items():
            for name in section if isinstance(section, dict) else ():
                key = (kind, name)
                if key not in contract.shared and (key in seen or key in shared):
                    clashes.add(key)
                seen.add(key)
    return clashes


def _rename(document: dict[str, Any], contract: Contract, clashes: set[tuple[str, str]]) -> dict[str, Any]:
    own = {key for key in clashes if key not in contract.shared and key[1] in document["components"].get(key[0], {})}
    if not own:
        return document
    prefix = contract.name.capitalize()
    references = {f"#/components/{kind}/{name}": f"#/components/{kind}/{prefix}{name}" for kind, name in own}
    renamed: dict[str, Any] = _replace(document, references)
    schemes = {name: prefix + name for kind, name in own if kind == "securitySchemes"}
    for holder in (renamed, *(item[m] for item in renamed["paths"].values() for m in METHODS if m in item)):
        if "security" in holder:
            holder["security"] = [
                {schemes.get(name, name): scopes for name, scopes in alternative.items()}
                for alternative in holder["security"]
            ]
    for kind, name in own:
        section = renamed["components"][kind]
        section[prefix + name] = section.pop(name)
    return renamed


def _replace(node: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _replace(child, texts) for key, child in node.items()}
    if isinstance(node, list):
        return [_replace(item, texts) for item in node]
    return texts.get(node, node) if isinstance(node, str) else node
