"""Served contracts and documentation pages."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from contracts.runtime.loading import Contract
from contracts.runtime.options import RuntimeOptions


def add_documentation(app: web.Application, contracts: Sequence[Contract], options: RuntimeOptions) -> None:
    """Add documents and pages."""
