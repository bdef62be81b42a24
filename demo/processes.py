"""The demo's child processes: started with a log file each, watched, and all ended whatever happens.

Children end with the block that started them: on success, on an exception, on Ctrl-C and on SIGTERM; where
`setpriv` is there, also when this process is killed outright.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

LOG_TAIL = 12
GRACE = 5.0
"""Seconds that children get between SIGTERM and SIGKILL."""


class DemoError(Exception):
    """The demo cannot go on. The text says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Child:
    """A started program, its log file, and what to do when it dies."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    hint: str

    def tail(self) -> str:
        """The last lines of its log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


class Processes:
    """The children of one run, in the order in which they were started."""

    def __init__(self, folder: Path, *, tied: bool = True) -> None:
        """`folder` takes their logs. Where they are not `tied`, they go on when this process is killed, or ends."""
        self._folder = folder
        self._tie = _tied_to_this_process() if tied else []
        self._children: list[Child] = []

    def start(
        self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None, hint: str = ""
    ) -> Child:
        """Start a program. `env` is its whole environment; without it the program gets this one's."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._tie, *map(str, command)],
                env=env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C of the terminal reaches this process alone, which then ends them in order.
                start_new_session=True,
            )
        child = Child(name, process, log, hint or "run it again; the parts are made again by `make parts`")
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise DemoError where a child has died."""
        for child in self._children:
            if (code := child.process.poll()) is not None:
                raise DemoError(
                    f"{child.name} {_ending(code)}. Its last lines:\n{child.tail()}\nTo do: {child.hint}"
                )

    def wait(self, child: Child, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready`; raises DemoError where a child dies before that, or the time is over."""
        end = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > end:
                text = f"{child.name} is not ready after {seconds:.0f} s. Its last lines:\n{child.tail()}"
                raise DemoError(f"{text}\nTo do: {child.hint}")
            time.sleep(0.05)
        self.check()

    def stop(self) -> None:
        """End all children, the last one first; kill those that do not go."""
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.terminate()
        end = time.monotonic() + GRACE
        for child in reversed(self._children):
            try:
                child.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Processes]:
    """Processes that end with this block. SIGTERM and SIGHUP leave it as SystemExit, SIGINT as KeyboardInterrupt."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell that starts this in the background has it ignored.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    processes = Processes(folder)
    try:
        yield processes
    finally:
        # A second Ctrl-C must not leave half of them behind.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        processes.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    candidates = random.SystemRandom().sample(range(20000, 32000), 2000)
    for port in candidates:
        if len(found) == count:
            return found
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    raise DemoError(f"no {count} free ports between 20000 and 32000 on 127.0.0.1\nTo do: end what holds them")


def listening(port: int) -> bool:
    """Whether somebody accepts connections on this local port."""
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", port)) == 0


def python(*arguments: str) -> list[str]:
    """The command line of a Python module of this project."""
    return [sys.executable, "-m", *arguments]


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended by itself (exit code {code})"


def _tied_to_this_process() -> list[str]:
    setpriv = shutil.which("setpriv") if os.name == "posix" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
