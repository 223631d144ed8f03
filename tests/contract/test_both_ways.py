"""Contracts and code say the same, in both directions: operations, refusals, statuses, documents, events."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import handlers
import integrations
import ledger
import storage
import streams
from contracts import errors
from contracts.errors import AppError
from contracts.runtime import Contract, lint, load_contracts
from contracts.runtime.loading import make_contract
from contracts.runtime.specs import public_document
from matchday import wiring
from matchday.wiring import CONTRACTS, SLICES
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.client import reached
from tests.stack import Stack, running

LOADED = load_contracts(CONTRACTS, SLICES)
# Whose modules answer each contract: those of the slice of its name, and webhooks where payments are.
MODULES: dict[str, tuple[str, ...]] = {name: (f"handlers.{name}.operations",) for name in SLICES} | {
    "wallet": ("handlers.wallet.operations", "handlers.wallet.transfers"),
    "webhooks": ("handlers.payments.webhooks",),
}
PROBLEM = "application/problem+json"
REFUSAL = re.compile(r"`([a-z_]+\.[a-z_]+)`")
Operation = dict[str, Any]


def every_operation() -> Iterator[tuple[Contract, str, Operation]]:
    for contract in LOADED:
        for method, _, operation in contract.operations():
            yield contract, method, operation


OPERATIONS = [
    pytest.param(contract, operation, id=operation["operationId"]) for contract, _, operation in every_operation()
]


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def handler_classes(contract: Contract) -> list[type]:
    """The classes of a contract's modules whose methods are operations: they take a Call."""
    modules = [importlib.import_module(name) for name in MODULES[contract.name]]
    return [
        cls for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__
    ]  # fmt: skip


def error_classes() -> list[type[AppError]]:
    """Every refusal of ours that has a code of its own."""
    for package in (handlers, integrations, ledger, storage, streams):
        list(modules_of(package))
    pending, found = [AppError], []
    while pending:
        pending += (children := pending.pop().__subclasses__())
        found += [cls for cls in children if "code" in vars(cls)]
    return found


FAMILIES = [cls for cls in error_classes() if cls.__module__ == errors.__name__ and AppError in cls.__bases__]
REFUSALS = [cls for cls in error_classes() if cls not in FAMILIES]


@pytest.mark.parametrize("contract", LOADED, ids=lambda contract: contract.name)
def test_every_operation_has_one_handler_and_every_handler_is_an_operation(contract: Contract) -> None:
    handled = wiring.operations(list[object](handler_classes(contract)))
    assert set(handled) == {operation["operationId"] for _, _, operation in contract.operations()}
    for name, handler in handled.items():
        assert list(inspect.signature(handler).parameters) == ["self", "call"], name


def test_no_operation_is_in_two_slices() -> None:
    everything = [cls for contract in LOADED for cls in handler_classes(contract)]
    assert len(wiring.operations(list[object](everything))) == len(OPERATIONS)


def test_contracts_keep_the_house_rules_together() -> None:
    assert lint(LOADED) == []


def described(contract: Contract, operation: Operation, status: int) -> str:
    """What an operation says about a status: in its own text, and in that of the response."""
    response = contract.resolve(operation["responses"][str(status)])
    return f"{operation.get('description', '')} {response.get('description', '')}"


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_every_refusal_is_documented_where_it_can_be_the_answer(refusal: type[AppError]) -> None:
    package, slice_, *_ = refusal.__module__.split(".")
    answered_by = [
        (contract, operation) for contract, _, operation in every_operation()
        if str(refusal.status) in operation["responses"]
    ]  # fmt: skip
    assert answered_by
    if package == "handlers":  # a slice's own refusal is named by its own contract, too
        assert any(
            f"`{refusal.code}`" in described(contract, operation, refusal.status)
            for contract, operation in answered_by if MODULES[contract.name][0].startswith(f"handlers.{slice_}.")
        )  # fmt: skip


@pytest.mark.parametrize(("contract", "operation"), OPERATIONS)
def test_every_refusal_that_an_operation_names_exists(contract: Contract, operation: Operation) -> None:
    known = {cls.code: cls.status for cls in REFUSALS}
    described_refusals = operation.get("description", "").partition("Refusals:")[2]
    for code in REFUSAL.findall(described_refusals):
        assert str(known[code]) in operation["responses"], code


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_no_refusal_is_dead(refusal: type[AppError]) -> None:
    used = re.compile(rf"\b{refusal.__name__}\b")
    sources = [path for package in ("handlers", "integrations", "ledger", "storage", "streams")
               for path in (CONTRACTS.parent / package).rglob("*.py")]  # fmt: skip
    lines = [line for path in sources for line in path.read_text("utf-8").splitlines() if used.search(line)]
    assert [line for line in lines if not line.startswith(("class ", "from ", "import "))]


def test_no_two_refusals_share_a_code() -> None:
    codes = [cls.code for cls in [*REFUSALS, *FAMILIES]]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize(("contract", "operation"), OPERATIONS)
def test_every_operation_documents_all_that_it_can_answer(contract: Contract, operation: Operation) -> None:
    responses = {status: contract.resolve(node) for status, node in operation["responses"].items()}
    parameters = [contract.resolve(node) for node in operation.get("parameters", ())]
    security = operation.get("security", contract.document.get("security"))
    expected = {"400", "500", "503"}
    if any(response.get("content") for status, response in responses.items() if status[0] in "23"):
        expected.add("406")
    if "requestBody" in operation:
        expected |= {"413", "415"}
    if any(parameter["in"] == "path" for parameter in parameters):
        expected.add("404")
    assert security is not None
    if security:
        expected.add("401")
    if any(scopes for alternative in security for scopes in alternative.values()):
        expected.add("403")
    assert expected - set(responses) == set()
    assert all(PROBLEM in response["content"] for status, response in responses.items() if status[0] in "45")


@pytest.mark.parametrize(("contract", "operation"), OPERATIONS)
def test_every_operation_shows_an_example_of_what_goes_in_and_out(contract: Contract, operation: Operation) -> None:
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    bodies += [response for status, response in operation["responses"].items() if status[0] in "23"]
    for body in (contract.resolve(node) for node in bodies):
        for media in body.get("content", {}).values():
            assert {"example", "examples"} & (media.keys() | contract.resolve(media["schema"]).keys())
    for node in operation.get("parameters", ()):
        parameter = contract.resolve(node)
        if parameter.get("required"):
            assert {"example", "examples"} & parameter.keys(), parameter["name"]


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with running(postgres, valkey, tmp_path_factory.mktemp("both_ways")) as stack:
        yield stack


@pytest.mark.parametrize("contract", LOADED, ids=lambda contract: contract.name)
def test_what_is_served_as_the_contract_is_the_contract(contract: Contract, stack: Stack) -> None:
    with stack.client() as client:
        served = client.call("GET", f"{contract.base_path}/openapi.json", expect=200)
    assert served == public_document(contract)
    again = make_contract(contract.name, served)  # raises when it is no OpenAPI 3.0 document or leads nowhere
    assert [operation for _, _, operation in again.operations()]


def test_all_contracts_are_served_as_one(stack: Stack) -> None:
    with stack.client() as client:
        served = client.call("GET", "/v1/openapi.json", expect=200)
    paths = {f"{contract.base_path}{path}" for contract in LOADED for path in contract.document["paths"]}
    assert {f"/v1{path}" for path in served["paths"]} == paths
    make_contract("all", served)


def event_types_in(path: Path) -> Iterator[str]:
    """The types of the events that a module or a file of queries makes, wherever it writes them."""
    if path.suffix == ".sql":
        yield from re.findall(r"'([a-z_]+\.[a-z_]+)'", path.read_text("utf-8"))
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").lower().endswith("event"):
            given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "type")]
            yield from (value.value for value in given if isinstance(value, ast.Constant))


def events_in_contract() -> set[str]:
    document = yaml.safe_load((CONTRACTS / "events.yaml").read_text("utf-8"))
    return {name for name in document["components"]["messages"] if "." in name}


def channels_in_contract() -> set[tuple[str, str]]:
    """The types of events, with the kinds of the channels that they are on."""
    document = yaml.safe_load((CONTRACTS / "events.yaml").read_text("utf-8"))
    kinds = {name: channel for name, channel in document["channels"].items() if ":" in channel["address"]}
    return {(message, kind) for kind, channel in kinds.items() for message in channel["messages"]}


def test_every_event_in_the_code_is_in_the_contract_and_the_other_way_round() -> None:
    sources = [path for path in (CONTRACTS.parent / "handlers").rglob("*") if path.suffix in (".py", ".sql")]
    assert {name for path in sources for name in event_types_in(path)} == events_in_contract()


def test_every_event_in_the_contract_really_happens(stack: Stack) -> None:
    with stack.client() as client:
        client.sign_up_and_in()
        deposit = client.start_deposit()
        client.pay(deposit, action="fail")
        client.paid_deposit()
        with stack.client() as receiver:
            receiver.sign_up_and_in()
            client.transfer(receiver.user_id, "1.00")
        reached(lambda: events_in_contract() <= stack.told(), what="every event")
    assert stack.told_on() == channels_in_contract()
