"""A headless Chromium with one page, over the DevTools protocol: open, type, press, read.

Source: https://chromedevtools.github.io/devtools-protocol/ (domains Page, Runtime, Log, Emulation).
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.streams.harness import reached

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 30.0


def find() -> str | None:
    """The browser of CHROME, or the first one in PATH."""
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """The page; `faults` are exceptions of its scripts and what the browser refused to do for it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.faults: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    async def open(self, url: str) -> None:
        await self._call("Page.navigate", url=url)
        await self.holds(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    async def read(self, expression: str) -> Any:
        """The value of an expression. Raises AssertionError for one that throws."""
        answer = await self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def holds(self, expression: str, *, within_s: float = START_S) -> None:
        """Wait until an expression is true."""
        await reached(lambda: self.read(expression), within_s=within_s, what=expression)

    async def type(self, selector: str, text: str) -> None:
        await self.read(f"document.querySelector({json.dumps(selector)}).focus()")
        await self._call("Input.insertText", text=text)

    async def press(self, selector: str) -> None:
        await self.read(f"document.querySelector({json.dumps(selector)}).click()")

    async def resize(self, width: int, height: int) -> None:
        await self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def picture(self) -> bytes:
        """The whole page as PNG."""
        answer = await self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    async def begin(self) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable")

    async def end(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(START_S):
            return await answer

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                assert "error" not in told, told
                self._asked.pop(told["id"]).set_result(told["result"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.faults.append(str(told["params"]["exceptionDetails"]))
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["source"] != "network":
                # a server that is away is told under "network"
                self.faults.append(str(told["params"]["entry"]))


@asynccontextmanager
async def chromium(program: str, profile: Path) -> AsyncIterator[Page]:
    """A browser of its own for the length of the block."""
    command = [program, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run",
               "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "about:blank"]  # fmt: skip
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium refuses to run as root with it
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = profile / "DevToolsActivePort"
        await reached(lambda: told.exists() and told.read_text().count("\n") >= 1, within_s=START_S, what="a browser")
        address = f"http://127.0.0.1:{told.read_text().splitlines()[0]}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{address}/json/list") as answer:
                (target,) = [target for target in await answer.json() if target["type"] == "page"]
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.begin()
                yield page
                await page.end()
    finally:
        process.kill()
        process.wait()
