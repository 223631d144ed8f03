"""taskiq on Redis streams: what workers run, and how everybody else asks them to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from taskiq_redis import RedisStreamBroker

from matchday.schedule import SCHEDULE

logger = logging.getLogger(__name__)

QUEUE = "matchday:tasks"
KICK_TIMEOUT_S = 0.5
# A message that a dead worker took is offered again after this; until then the sweeps have found its work.
IDLE_TIMEOUT_MS = 60_000
STREAM_LENGTH = 100_000

Task = Callable[..., Awaitable[Any]]


def create_broker(redis_url: str) -> RedisStreamBroker:
    """A broker on our stream. A group begins at the stream's beginning: kicks before the first worker count."""
    return RedisStreamBroker(
        redis_url, queue_name=QUEUE, consumer_group_name="workers", consumer_id="0", idle_timeout=IDLE_TIMEOUT_MS,
        unacknowledged_lock_timeout=10, maxlen=STREAM_LENGTH, xread_count=20,
    )  # fmt: skip


def register(broker: RedisStreamBroker, tasks: Mapping[str, Task]) -> None:
    """Make tasks known under their names, with the schedule of those that run by the clock."""
    for name, task in tasks.items():
        every_s = SCHEDULE.get(name)
        labels = {} if every_s is None else {"schedule": [{"interval": every_s, "schedule_id": name}]}
        broker.register_task(_named(task), task_name=name, **labels)


class Kicker:
    """`await kick("payments.process_delivery", inbox_id=…)`: ask a worker to run a task soon.

    Best effort, after the commit that made the work: it never raises and never takes long, and a lost kick costs
    the time until the next sweep.
    """

    def __init__(self, broker: RedisStreamBroker) -> None:
        self._broker = broker

    async def __call__(self, task: str, **arguments: Any) -> None:
        try:
            async with asyncio.timeout(KICK_TIMEOUT_S):
                found = self._broker.find_task(task)
                assert found is not None, task
                await found.kiq(**arguments)
        except Exception as fault:
            logger.warning("broker.kick_lost", extra={"task": task, "fault": type(fault).__name__})


def _named(task: Task) -> Task:
    """A plain function around a bound method: taskiq writes attributes on what it registers."""

    async def run(**arguments: Any) -> None:
        await task(**arguments)

    return run
