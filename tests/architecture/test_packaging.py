"""What is installed is what is here: packages and data files are listed by hand, and a forgotten one breaks a wheel."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
DATA: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
TOP = ("contracts", "handlers", "integrations", "ledger", "matchday", "migrations", "storage", "streams")


def test_every_python_package_is_listed() -> None:
    found = {
        ".".join(module.parent.relative_to(REPOSITORY).parts)
        for top in TOP
        for module in (REPOSITORY / top).rglob("*.py")
        if "__pycache__" not in module.parts
    }
    assert found == set(PACKAGES)


def test_every_data_file_is_listed() -> None:
    forgotten = [
        str(path.relative_to(REPOSITORY))
        for top in TOP
        for path in (REPOSITORY / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and not _is_listed(path)
    ]
    assert forgotten == []


def _is_listed(path: Path) -> bool:
    for package, patterns in DATA.items():
        folder = REPOSITORY / Path(*package.split("."))
        if path.is_relative_to(folder):
            name = str(path.relative_to(folder))
            if any(_matches(name, pattern) for pattern in patterns):
                return True
    return False


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
