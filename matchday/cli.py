"""The command line: `matchday up`, `matchday demo`, the single roles, and what operators ask."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence

from matchday import channels_cli, check, config, contract_cli, demo, ledger_cli, processes, streams_cli, supervisor
from matchday.config import ConfigError
from matchday.home import Addresses, Home, HomeInUse
from matchday.supervisor import DidNotStart
from storage.migrations import migrate

ROLE_HELP = {
    "serve": "the API, its documentation and the streams",
    "worker": "tasks: webhooks, mail, sweeps",
    "relay": "moves committed events to the log",
    "consumers": "readers of the log: projections",
    "scheduler": "kicks what runs by the clock",
    "sandbox": "local stand-ins for payment and mail vendors",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script. Exits 0, or 1 with one readable reason, or 2 for a wrong command line."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except ConfigError as fault:
        sys.exit("matchday: the configuration has faults\n" + "\n".join(f"  {line}" for line in fault.faults))
    except (HomeInUse, DidNotStart, RuntimeError) as fault:
        sys.exit(f"matchday: {fault}")
    except demo.NotAsItShouldBe:
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="matchday", description="Contract-first backend for sports and recreation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    command("up", _up, "run everything on this machine until Ctrl-C")
    played = command("demo", _demo, "act as a user against a running stack, or start one")
    played.add_argument("--api", help="address of a running API")
    played.add_argument("--sandbox", help="address of its vendor sandbox")
    for role, text in ROLE_HELP.items():
        command(role, _role(role), text)
    command("migrate", _migrate, "bring the schema up to date")
    ledger_cli.add(commands)
    streams_cli.add(commands)
    contract_cli.add(commands)
    channels_cli.add(commands)
    command("check", _check, "name every fault of configuration, contracts and queries")
    return parser


def _up(arguments: argparse.Namespace) -> None:
    asyncio.run(supervisor.up(Home.of(os.environ), os.environ, say=_say))


def _demo(arguments: argparse.Namespace) -> None:
    if (arguments.api is None) != (arguments.sandbox is None):
        sys.exit("matchday: --api and --sandbox go together")
    home = Home.of(os.environ)
    addresses = Addresses(arguments.api, arguments.sandbox) if arguments.api else home.running()
    asyncio.run(demo.play(addresses, demo.Narrator()) if addresses else _demo_on_own_stack(home))


async def _demo_on_own_stack(home: Home) -> None:
    logs = home.path / "logs"
    _say(f"no stack runs here; starting one, logs in {logs}")
    async with supervisor.running(home, os.environ, say=_say, log_dir=logs) as stack:
        _say(f"API {stack.addresses.api}, sandbox {stack.addresses.sandbox}")
        await demo.play(stack.addresses, demo.Narrator())


def _role(role: str) -> Callable[[argparse.Namespace], None]:
    return lambda arguments: processes.run(role, config.read(os.environ))


def _migrate(arguments: argparse.Namespace) -> None:
    applied = migrate(config.read(os.environ).database_owner_url, report=_say)
    _say(f"{applied} applied")


def _check(arguments: argparse.Namespace) -> None:
    faults = asyncio.run(check.faults(os.environ))
    for fault in faults:
        print(fault)
    if faults:
        sys.exit(1)
    print("everything is in order")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
