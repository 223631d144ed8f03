"""Schemathesis over every contract against the running stack: all phases, all checks, no failure and no warning.

It runs as its command line does (schemathesis.toml), in a process of its own. FUZZ_EXAMPLES (per operation and phase)
goes deeper, FUZZ_SEED elsewhere. There is no `--max-time`: with it, fuzzing repeats until the time is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.runtime import Contract, load_contracts
from handlers.realtime import members
from matchday.wiring import CONTRACTS, SLICES
from storage.db import Database
from storage.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.client import reached
from tests.stack import Stack, running

ROOT = CONTRACTS.parent
SEED = int(os.environ.get("FUZZ_SEED", "20261122"))
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "50"))
TIME_LIMIT_S = 240 * max(1, EXAMPLES // 50)
PHASES = {"examples", "coverage", "fuzzing", "stateful"}
# The only operation whose success is a redirect.
REDIRECTS = {"returnFromCheckout": 303}
CHANNEL = "back_office:support"
RESEND_AFTER_S = 40  # the contract says thirty seconds
# Identity comes last: by then its sign-ups are old enough for a second code, and nobody has waited.
CONTRACTS_LAST_IDENTITY = sorted(load_contracts(CONTRACTS, SLICES), key=lambda contract: contract.name == "identity")


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Streams end by rotation after a moment, so that a fuzzer that reads them to the end comes back."""
    with running(postgres, valkey, tmp_path_factory.mktemp("fuzz"), REALTIME_LIFETIME_MS="150") as stack:
        yield stack


@pytest.fixture(scope="module")
def sign_ups(stack: Stack) -> list[str]:
    """Sign-ups that nobody has completed, made before anything else."""
    with stack.client() as client:
        return [client.begin_sign_up().id for _ in range(16 + EXAMPLES // 4)]


@pytest.mark.parametrize("contract", CONTRACTS_LAST_IDENTITY, ids=lambda contract: contract.name)
def test_the_running_stack_keeps_its_contract(
    contract: Contract, stack: Stack, sign_ups: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aged = _aged(stack, sign_ups) if contract.name == "identity" else []
    report = _fuzz(stack, contract, aged, tmp_path)
    answers = _answers(contract, tmp_path / "events.ndjson")
    names = {operation["operationId"] for _, _, operation in contract.operations()}
    with capsys.disabled():
        cases, seconds = report["test_cases"]["generated"], report["running_time"]
        print(f"\n{contract.name}: {len(names)} operations, {cases} cases, {seconds:.1f} s, seed {report['seed']}")
    assert report["complete"]
    assert (report["failures"], report["errors"]) == ([], [])
    assert {name: found for name, found in report["warnings"].items() if found} == {}
    assert {report["operations"][key] for key in ("total", "selected", "tested")} == {len(names)}
    assert {phase for phase, end in report["phases"].items() if end["status"] == "success"} == _phases(contract)
    assert {name for name in names if not _succeeded(name, answers[name])} == set()


def _aged(stack: Stack, sign_ups: list[str]) -> list[str]:
    """All but the newest, once that one is old enough to be sent a second code."""
    *older, newest = sign_ups
    path = f"/v1/identity/sign-ups/{newest}/code"
    with stack.client() as client:
        reached(
            lambda: client.request("POST", path).status_code == 202,
            what="a second code", within_s=RESEND_AFTER_S, every_s=0.5,
        )  # fmt: skip
    return older


async def _member(stack: Stack) -> str:
    """A new user who has been made a member of a channel, by address."""
    with stack.client() as client:
        email = client.sign_up()
        client.token = client.sign_in(email)
        user_id = client.user_id
    db = Database(stack.config.database_url)
    await db.connect()
    async with db.transaction() as conn:
        await members.grant(conn, CHANNEL, user_id)
    await db.disconnect()
    return email


def _fuzz(stack: Stack, contract: Contract, aged: list[str], folder: Path) -> dict[str, Any]:
    """Run Schemathesis and return its report; a run that ends in anything but success fails here, in its words."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FUZZ_EMAIL": asyncio.run(_member(stack)),
        "FUZZ_CHANNEL": CHANNEL,
        "FUZZ_API": stack.api,
        "FUZZ_SANDBOX": stack.sandbox,
        "FUZZ_WEBHOOK_SECRET": stack.config.razorpay_webhook_secrets[0],
        "FUZZ_AGED_SIGN_UPS": ",".join(aged),
    }
    ended = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml"),
            "run", f"{stack.api}{contract.base_path}/openapi.json", "--no-color",
            "--seed", str(SEED), "--max-examples", str(EXAMPLES), "--report", "json,ndjson",
            "--report-json-path", str(folder / "report.json"), "--report-ndjson-path", str(folder / "events.ndjson"),
        ],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIME_LIMIT_S,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, "\n".join(line[:500] for line in ended.stdout.splitlines())
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def _answers(contract: Contract, events: Path) -> dict[str, Counter[int]]:
    """How often each operation answered with each status, to the fuzzer's own cases."""
    names = {(method.upper(), path): operation["operationId"] for method, path, operation in contract.operations()}
    answers: dict[str, Counter[int]] = defaultdict(Counter)
    for line in events.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case_id, interaction in recorder.get("interactions", {}).items():
            case = recorder["cases"][case_id]["value"]
            name = names.get((case["method"], case["path"]))
            if name is not None and interaction["response"] is not None:
                answers[name][interaction["response"]["status_code"]] += 1
    return answers


def _phases(contract: Contract) -> set[str]:
    """The phases that must have run: without links there is no state to walk through."""
    linked = any(
        contract.resolve(response).get("links")
        for _, _, operation in contract.operations()
        for response in operation["responses"].values()
    )
    return PHASES if linked else PHASES - {"stateful"}


def _succeeded(name: str, answers: Counter[int]) -> bool:
    if name in REDIRECTS:
        return answers[REDIRECTS[name]] > 0
    return any(200 <= status < 300 for status in answers)
