"""The contract lint: what a contract must say, and what it must not, before it is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.runtime.loading import Contract


def lint(contracts: Sequence[Contract]) -> list[str]:
    """Every fault of the contracts by themselves."""
    return []


def binding_faults(
    contracts: Sequence[Contract], operations: Mapping[str, Any], security: Mapping[str, Any]
) -> list[str]:
    """Operations without handlers, handlers without operations, schemes without handlers."""
    faults = []
    known: set[str] = set()
    schemes: set[str] = set()
    for contract in contracts:
        default = contract.document.get("security", [])
        for method, path, operation in contract.operations():
            name = operation.get("operationId", "")
            known.add(name)
            if name not in operations:
                faults.append(f"{contract.name}: {method.upper()} {path}: no handler for operationId {name}")
            for alternative in operation.get("security", default):
                schemes.update(alternative)
    faults.extend(f"handler {name}: no contract has this operationId" for name in sorted(operations.keys() - known))
    faults.extend(f"security scheme {name}: no security handler" for name in sorted(schemes - security.keys()))
    return faults
