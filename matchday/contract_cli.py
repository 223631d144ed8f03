"""`matchday contract …`: what frontend teams ask of the contracts; needs no configuration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from contracts.asyncapi import LANGUAGES, EventsDocument, types_in
from matchday.wiring import CONTRACTS


def add(commands: Any) -> None:
    """Add `contract` with its own commands to the command line's."""
    text = "the contracts: types of every event and message"
    parser = commands.add_parser("contract", help=text, description=text)
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "write the types of every event and message as a module"
    types = own.add_parser("types", help=text, description=text)
    types.add_argument("--language", required=True, choices=sorted(LANGUAGES))
    types.add_argument("--output", type=Path, metavar="FILE", help="where to; without: standard output")
    types.set_defaults(run=_types)


def _types(arguments: argparse.Namespace) -> None:
    source = types_in(arguments.language, EventsDocument.load(CONTRACTS / "events.yaml"))
    if arguments.output is None:
        sys.stdout.write(source)
        return
    try:
        arguments.output.write_text(source, encoding="utf-8")
    except OSError as fault:
        sys.exit(f"matchday: {arguments.output}: {fault.strerror}")
