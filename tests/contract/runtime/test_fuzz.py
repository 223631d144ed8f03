"""Schemathesis against the sample service: every check, every phase, no failure."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from contracts.runtime import ApiRunner, RuntimeOptions
from tests.contract.runtime.sample_app import TOKEN, make_app

SEED = 1
CONFIGURATION = f"""
continue-on-failure = true
headers = {{ Authorization = "Bearer {TOKEN}" }}
[generation]
max-examples = 20
# NUL is refused by design, wherever it is written (README of the runtime, Limits).
allow-x00 = false
[phases.examples]
fill-missing = true
[phases.stateful]
max-steps = 6
[checks.negative_data_rejection]
# What is too large is refused before it is looked at.
expected-statuses = ["400", "401", "403", "404", "405", "406", "413", "415", "422"]
[warnings]
fail-on = ["validation_mismatch", "missing_auth"]
"""


@contextmanager
def serving(app: web.Application) -> Iterator[int]:
    """Serve an application from a thread; yields its port."""
    loop = asyncio.new_event_loop()
    runner = ApiRunner(app, access_log=None)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    violations: list[str] = []
    options = RuntimeOptions(response_validation="strict", response_violations=violations)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with serving(make_app(options)) as port:
        run = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run",
                f"http://127.0.0.1:{port}/v1/orders/openapi.json", "--seed", str(SEED), "--no-color",
            ],
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0, "\n".join(line[:300] for line in (run.stdout + run.stderr).splitlines())
    assert violations == []
    # A run that reached nothing is green too.
    assert re.search(r"Selected: 6/6", run.stdout), run.stdout
    assert re.search(r"Tested: 6", run.stdout), run.stdout
