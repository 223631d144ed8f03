"""The single roles: what runs in a process of its own, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop
from aiohttp import web
from taskiq import TaskiqScheduler
from taskiq.api import run_receiver_task, run_scheduler_task
from taskiq.receiver import Receiver
from taskiq.schedule_sources import LabelScheduleSource

from contracts.runtime import ApiRunner
from matchday import metrics, telemetry, wiring
from matchday.config import Config

logger = logging.getLogger(__name__)

# A supervisor that wants to know when a role is up passes the descriptor of a pipe here.
READY_FD = "MATCHDAY_READY_FD"
SHUTDOWN_TIMEOUT_S = 10.0
EXIT_TIMEOUT_S = 18.0
MAX_TASKS = 20
RETRY_S = 1.0
# Requests that share a batch make and free thousands of objects together; the default, 700, calls that garbage.
GC_THRESHOLD = 10_000

Role = Callable[[Config], Awaitable[None]]


def run(role: str, config: Config) -> None:
    """Run a role until SIGTERM or SIGINT."""
    telemetry.configure(role, style=config.log_format)
    gc.set_threshold(GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(role, config))


class PatientReceiver(Receiver):
    """taskiq's receiver, which waits a little when Redis is away instead of asking without a pause."""

    async def listen(self, finish_event: asyncio.Event) -> None:
        try:
            await super().listen(finish_event)
        except Exception as fault:
            logger.warning("worker.interrupted", extra={"fault": type(fault).__name__})
            await asyncio.sleep(RETRY_S)


async def serve(config: Config) -> None:
    """The API: contracts, documentation, streams, health."""
    async with wiring.resources(config, role="serve") as opened:
        api = wiring.create_web_api(config, opened)
        async with serving(api, config):
            _ready("serve")
            await asyncio.Event().wait()


@asynccontextmanager
async def serving(api: wiring.Api, config: Config) -> AsyncIterator[None]:
    """Listen for the length of the block, with what the API needs running beside its handlers.

    At the end streams say good-bye while requests are still answered: until they come elsewhere, for `/health/ready`
    says at once that they should.
    """
    await api.revocations.start()
    await api.realtime.start()
    api.poster.start()
    try:
        async with site(api_runner(api, config), config.host, config.port):
            try:
                yield
            finally:
                await api.realtime.stop()
    finally:
        await api.poster.stop()
        await api.revocations.stop()
        api.hasher.close()


def api_runner(api: wiring.Api, config: Config) -> web.AppRunner:
    """The API's runner: what is no HTTP, or too long for it, is told as a problem too."""
    return ApiRunner(api.app, type_base=config.problem_base, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)


async def worker(config: Config) -> None:
    """Tasks: webhooks, mail, sweeps."""
    async with wiring.resources(config, role="worker") as opened:
        opened.broker.is_worker_process = True
        _ready("worker")
        await run_receiver_task(opened.broker, receiver_cls=PatientReceiver, max_async_tasks=MAX_TASKS)


async def relay(config: Config) -> None:
    """Moves committed events from the outbox to the log; one leads, others stand by."""
    async with wiring.resources(config, role="relay") as opened:
        _ready("relay")
        await wiring.create_relay(opened).run()


async def consumers(config: Config) -> None:
    """Readers of the log, each in its group; any number of processes share the work."""
    async with wiring.resources(config, role="consumers") as opened:
        _ready("consumers")
        await wiring.create_consumers(opened).run()


async def scheduler(config: Config) -> None:
    """Kicks what runs by the clock."""
    async with wiring.resources(config, role="scheduler") as opened:
        _ready("scheduler")
        await run_scheduler_task(TaskiqScheduler(opened.broker, [LabelScheduleSource(opened.broker)]))


async def sandbox(config: Config) -> None:
    """Local stand-ins for payment and mail vendors."""
    runner = web.AppRunner(wiring.create_vendor_sandbox(config), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    async with site(runner, config.host, config.sandbox_port):
        _ready("sandbox")
        await asyncio.Event().wait()


ROLES: dict[str, Role] = {
    "serve": serve, "worker": worker, "relay": relay, "consumers": consumers, "scheduler": scheduler,
    "sandbox": sandbox,
}  # fmt: skip


async def _measured(role: str, config: Config) -> None:
    """Run a role, and serve what it measures when there is a port for that."""
    async with AsyncExitStack() as stack:
        if config.metrics_port is not None:
            await stack.enter_async_context(site(metrics.runner(), config.metrics_host, config.metrics_port))
        await ROLES[role](config)


async def _until_stopped(role: str, config: Config) -> None:
    task = asyncio.ensure_future(_measured(role, config))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        task.cancel()
        # Whatever hangs on the way out must not outlive the supervisor's patience.
        loop.call_later(EXIT_TIMEOUT_S, os._exit, 1)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    try:
        await task
    except asyncio.CancelledError:
        logger.info("process.stopped")


@asynccontextmanager
async def site(runner: web.AppRunner, host: str, port: int) -> AsyncIterator[None]:
    """Listen for the length of the block."""
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def _ready(role: str) -> None:
    logger.info("process.ready")
    descriptor = os.environ.pop(READY_FD, None)
    if descriptor is not None:
        os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))
