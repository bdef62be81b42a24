"""A headless Chromium, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE = 90.0
Json = dict[str, Any]


def program() -> str | None:
    """Where Chromium is; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab. `problems` are its exceptions, console errors and refusals by its own policy; `requests` its URLs."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._session = ""
        self._reading = asyncio.ensure_future(self._read())
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.headers: dict[str, Json] = {}

    async def open(self) -> None:
        """A tab of its own."""
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.resize(1280, 900)

    async def close(self) -> None:
        """Stop listening."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def send(self, method: str, **parameters: Any) -> Json:
        """A command's result; raises AssertionError with the browser's words where it refuses."""
        number = next(self._ids)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters} | session)
        found = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in found, (method, found)
        result: Json = found["result"]
        return result

    async def go(self, url: str) -> None:
        """Load an address, and wait until the page has asked the ledger."""
        await self.send("Page.navigate", url="about:blank")
        await self.send("Page.navigate", url=url)
        await self.settled()

    async def settled(self) -> str:
        """The page's state, once it is at rest: ready, empty, error, token or forbidden."""
        found = await self.until(
            "document.body?.dataset.state && document.body.dataset.state !== 'loading'"
            " && document.getElementById('main').ariaBusy === 'false' && document.body.dataset.state"
        )
        return str(found)

    async def run(self, expression: str) -> Any:
        """A JavaScript expression's value, awaited where it is a promise."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Its value, as soon as it is true; raises AssertionError where it never is."""
        end = time.monotonic() + PATIENCE
        while not (value := await self.run(expression)):
            assert time.monotonic() < end, (expression, await self.run("document.body.innerText"))
            await asyncio.sleep(0.05)
        return value

    async def text(self, selector: str) -> str:
        """What an element shows."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def rows(self, selector: str) -> list[list[str]]:
        """The cells' texts of a table's body; numbers without their commas."""
        cells = (
            f"[...document.querySelectorAll({json.dumps(selector + ' tbody tr')})]"
            ".map(row => [...row.cells].map(cell => cell.querySelector('data')?.value ?? cell.innerText))"
        )
        found: list[list[str]] = await self.run(cells)
        return found

    async def press(self, key: str) -> None:
        """A key, to whatever has the focus."""
        codes = {
            "ArrowLeft": 37,
            "ArrowRight": 39,
            "Home": 36,
            "End": 35,
            "Escape": 27,
            "Tab": 9,
            "Enter": 13,
        }
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **text,
            )

    async def type(self, text: str) -> None:
        """Text, into whatever has the focus."""
        await self.send("Input.insertText", text=text)

    async def resize(self, width: int, height: int, scale: float = 1) -> None:
        """The window's size, in CSS pixels."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    async def scheme(self, name: str) -> None:
        """What the reader prefers: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                answer = self._waiting.pop(told["id"])
                if not answer.done():
                    answer.set_result(told)
            else:
                self._note(told["method"], told["params"])

    def _note(self, method: str, told: Json) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.problems.append(str(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.problems.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Network.responseReceived":
            self.headers[told["response"]["url"]] = told["response"]["headers"]


@asynccontextmanager
async def browsing(*flags: str) -> AsyncIterator[Page]:
    """A browser with one tab, while the block lasts."""
    path = program()
    assert path is not None
    with tempfile.TemporaryDirectory(prefix="tm-chromium-", ignore_cleanup_errors=True) as folder:
        command = [path, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        command += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", *flags]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            address = await _address(process, Path(folder) / "DevToolsActivePort")
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(address, max_msg_size=0) as socket,
            ):
                page = Page(socket)
                try:
                    await page.open()
                    yield page
                finally:
                    await page.close()
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), PATIENCE)


async def _address(process: asyncio.subprocess.Process, file: Path) -> str:
    """What it writes when it listens: its port, and its path."""
    end = time.monotonic() + PATIENCE
    while len(lines := _read(file).split()) < 2:
        assert process.returncode is None, "Chromium has ended"
        assert time.monotonic() < end, "Chromium does not listen"
        await asyncio.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
