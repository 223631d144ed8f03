"""The circuit breaker, with a clock that only moves when told."""

from __future__ import annotations

import asyncio

import pytest

from integrations.breaker import CircuitBreaker
from integrations.ports import ProviderOutcomeUnknown, ProviderRefused, ProviderUnavailable


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures_to_open=3, open_s=10.0, clock=clock)


def call(breaker: CircuitBreaker, fault: BaseException | None = None) -> None:
    with breaker.guard("p", "op"):
        if fault is not None:
            raise fault


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ProviderOutcomeUnknown):
            call(breaker, ProviderOutcomeUnknown("p", "op", "timed out"))


def is_open(breaker: CircuitBreaker) -> bool:
    try:
        call(breaker)
    except ProviderUnavailable:
        return True
    return False


def test_only_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    call(breaker)
    fail(breaker, 2)
    assert not is_open(breaker)
    fail(breaker, 3)
    assert is_open(breaker)


def test_it_tells_when_to_come_back(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 6.5
    with pytest.raises(ProviderUnavailable) as unavailable:
        call(breaker)
    assert unavailable.value.retry_after_s == 4


def test_a_refusal_is_an_answer(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    with pytest.raises(ProviderRefused):
        call(breaker, ProviderRefused("p", "op", "no", status=400, code=None, field=None))
    fail(breaker, 2)
    assert not is_open(breaker)


def test_a_probe_that_works_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    call(breaker)
    fail(breaker, 2)
    assert not is_open(breaker)


def test_a_probe_that_fails_opens_it_again_for_the_whole_time(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    fail(breaker, 1)
    clock.now += 9.9
    assert is_open(breaker)
    clock.now += 0.1
    assert not is_open(breaker)


def test_only_one_call_probes(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    with breaker.guard("p", "probe"):
        assert is_open(breaker)
    assert not is_open(breaker)


def test_a_cancelled_probe_lets_the_next_one_in(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    with pytest.raises(asyncio.CancelledError):
        call(breaker, asyncio.CancelledError())
    assert not is_open(breaker)
