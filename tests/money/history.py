"""The checker: is there a serial order of what was asked for, in which the model gives every answer that was received?

A request that ended before another began comes before it; those that overlapped may come in any order. The search walks
from state to state and takes whatever the model would answer as it was answered (Wing and Gong, with Lowe's memory of
where it has been). Written transactions carry the sequence of every account, so their order is hardly in doubt. Refusals
and reads change nothing: each is taken as soon as some state explains it, which can only help the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ledger.journal import Posting
from tests.money.model import (
    Answer,
    Change,
    Left,
    Look,
    Model,
    Post,
    Refused,
    Request,
    Resolve,
    ResolveGroup,
    Reverse,
    Standing,
    Written,
)

MOST_STATES = 20_000
LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """A request and its answers, one for each set, with when it began and ended (nanoseconds of one clock).

    `instants` are those at which its transactions were recorded, as the answers told.
    """

    request: Request
    answers: tuple[Answer, ...]
    began: int
    ended: int
    instants: dict[str, datetime] = field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        """Whether what it wrote was not rolled back."""
        return not (isinstance(self.request, Post) and self.request.way == "aborted")

    @property
    def writes(self) -> bool:
        """Whether the state after it is another one."""
        if isinstance(self.request, Change):
            return isinstance(self.answers[0], Standing)
        if isinstance(self.request, Look) or not self.is_kept:
            return False
        written = [one for answer in self.answers if isinstance(answer, tuple) for one in answer]
        return any(isinstance(one, Written) and not one.replayed for one in written)


class Unexplained(AssertionError):
    """No serial order explains the answers."""


@dataclass(frozen=True)
class _State:
    model: Model
    done: int  # a bit for each event
    order: tuple[int, ...]
    seen: tuple[frozenset[Left], ...]  # what each group's resolver may have seen of its group


class Search:
    """One search for a serial order of events, from the state that `model` is in."""

    def __init__(self, model: Model, events: Sequence[Event]) -> None:
        self._model = model
        self._events = sorted(
            events, key=lambda event: min(event.instants.values(), default=LATEST)
        )  # where to try first
        self._before = [
            sum(1 << n for n, other in enumerate(self._events) if other.ended < event.began) for event in self._events
        ]
        self._groups = {
            n: event.request.group for n, event in enumerate(self._events) if isinstance(event.request, ResolveGroup)
        }

    def run(self) -> tuple[Model, list[Event]]:
        """The model in its last state, and the events in a legal order. Raises Unexplained."""
        states = [_State(self._model, 0, (), tuple(frozenset() for _ in self._groups))]
        visited: set[tuple[int, tuple[frozenset[Left], ...]]] = set()
        furthest = states[0]
        while states:
            state = self._take_what_changes_nothing(states.pop())
            if len(state.order) == len(self._events):
                return state.model, [self._events[n] for n in state.order]
            if len(state.order) >= len(furthest.order):
                furthest = state
            if (state.done, state.seen) in visited:
                continue
            visited.add((state.done, state.seen))
            if len(visited) > MOST_STATES:
                raise Unexplained(f"no order found in {MOST_STATES} states\n{self._told(furthest)}")
            follow = [self._after(state, n) for n in self._ready(state) if self._events[n].writes]
            states += [after for after in reversed(follow) if after is not None]
        raise Unexplained(f"no serial order explains these answers\n{self._told(furthest)}")

    def _ready(self, state: _State) -> list[int]:
        return [n for n, before in enumerate(self._before) if not state.done >> n & 1 and before & state.done == before]

    def _take_what_changes_nothing(self, state: _State) -> _State:
        while True:
            state = self._look_at_groups(state)
            taken = state
            for n in self._ready(state):
                if not self._events[n].writes:
                    taken = self._after(taken, n) or taken
            if taken is state:
                return state
            state = taken

    def _look_at_groups(self, state: _State) -> _State:
        ready = self._ready(state)
        seen = tuple(
            found | {state.model.left(group)} if n in ready else found
            for (n, group), found in zip(self._groups.items(), state.seen, strict=True)
        )
        return _State(state.model, state.done, state.order, seen)

    def _after(self, state: _State, n: int) -> _State | None:
        event = self._events[n]
        for left in self._may_have_seen(state, n):
            model = state.model.fork()
            if model.answer(event.request, left) == event.answers:
                model = model if event.writes else state.model
                return _State(model, state.done | 1 << n, (*state.order, n), state.seen)
        return None

    def _may_have_seen(self, state: _State, n: int) -> Sequence[Left]:
        return sorted(state.seen[list(self._groups).index(n)]) if n in self._groups else [()]

    def _told(self, state: _State) -> str:
        lines = ["in this order so far:"]
        lines += [f"  {told(self._events[n])}" for n in state.order]
        lines.append("and then none of these, which the model would answer otherwise:")
        for n in self._ready(state):
            lines.append(f"  {told(self._events[n])}")
            for left in self._may_have_seen(state, n):
                lines.append(f"    model: {state.model.fork().answer(self._events[n].request, left)}")
        lines.append("and those after them:")
        rest = [n for n in range(len(self._events)) if not state.done >> n & 1 and n not in self._ready(state)]
        return "\n".join([*lines, *(f"  {told(self._events[n])}" for n in rest)])


def told(event: Event) -> str:
    """An event in a line."""
    return f"[{event.began} .. {event.ended}] {asked(event.request)} -> {', '.join(map(answered, event.answers))}"


def asked(request: Request) -> str:
    """A request in words."""
    match request:
        case Post():
            return f"{request.way} {' | '.join(' & '.join(map(_posting, postings)) for postings in request.sets)}"
        case Resolve(resolution=r):
            return f"resolve {r.key} {r.hold_id} captured={r.captured} released={r.released}"
        case ResolveGroup():
            return f"{'capture' if request.capture else 'release'} group {request.group} {request.key}"
        case Reverse():
            return f"reverse {request.transaction_id} {request.key}"
        case Change():
            account = request.account
            return f"{account.code} {account.currency} {request.status} floor={request.floor} ceiling={request.ceiling}"
        case Look():
            return "look"


def answered(answer: Answer) -> str:
    """An answer in words."""
    if isinstance(answer, Refused):
        return answer.reason
    if isinstance(answer, (Standing, frozenset)):
        return str(answer)
    return " & ".join(map(_written, answer)) or "nothing"


def _posting(posting: Posting) -> str:
    legs = " ".join(
        f"{leg.account.code}.{leg.account.currency}{leg.amount:+}"
        + (f"[pending -{leg.pending_debit} +{leg.pending_credit}]" if leg.pending_debit or leg.pending_credit else "")
        + (f"[{leg.at_least} <= . <= {leg.at_most}]" if leg.at_least is not None or leg.at_most is not None else "")
        + (f"[version {leg.version}]" if leg.version is not None else "")
        for leg in posting.legs
    )
    more = ("up_to", "reverses", "hold_id", "expires_at", "hold_group", "happened_at")
    return f"{posting.key}({posting.kind} {legs}{''.join(f' {name}={v}' for name in more if (v := getattr(posting, name)))})"


def _written(written: Written) -> str:
    lines = ", ".join(
        f"{line.account.code}.{line.account.currency}#{line.sequence} {line.amount:+} "
        f"{line.credits}/{line.debits}/{line.pending_credits}/{line.pending_debits}"
        for line in sorted(written.lines, key=lambda line: (line.account.code, line.account.currency))
    )
    return f"{'replayed' if written.replayed else 'written'} {written.transaction_id} ({lines})"
