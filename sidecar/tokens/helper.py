"""The tokenizer's process, from outside: started at need, bounded in time, ended when nobody wants it. Blocking."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from sidecar.tokens.local import RANKS_DIR, there_is

LOAD_SECONDS, JOB_SECONDS, RETRY_SECONDS = 120.0, 10.0, 60.0
_CHUNK = 64 * 1024
# One thread is what a sidecar may take from the model's pod.
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


class HelperError(Exception):
    """There is no answer; the text says why."""


class NoTokenizer(HelperError):
    """There is nothing to load."""


class Helper:
    """Asked by one thread.

    What could not be loaded, has crashed or took too long is tried again after `retry_seconds`.
    """

    def __init__(
        self,
        folder: Path,
        models: Sequence[str] = (),
        *,
        ranks: Path = RANKS_DIR,
        job_seconds: float = JOB_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._folder, self._models, self._ranks = folder, tuple(models), ranks
        self._job_seconds, self._retry_seconds = job_seconds, retry_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._retry_at = 0.0
        self.by = ""
        self.problem = ""
        """Why it last failed; none where there is just nothing to load."""

    def ask(self, job: dict[str, Any]) -> int | None:
        """The job's count, None where the job has none. Raises HelperError."""
        if self._process is None and monotonic() < self._retry_at:
            raise HelperError("it failed a short while ago")
        try:
            process = self._process or self._start()
            answer = self._exchange(process, orjson.dumps(job), self._job_seconds)
        except (OSError, ValueError, HelperError) as error:
            self.end()
            self.problem = "" if isinstance(error, NoTokenizer) else str(error)
            self._retry_at = monotonic() + self._retry_seconds
            raise error if isinstance(error, HelperError) else HelperError(str(error)) from None
        count = answer.get("count")
        return count if isinstance(count, int) else None

    def end(self) -> None:
        """End the process, if there is one; its memory is free again. For the thread that asks."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()  # closes the pipes and reaps it

    def kill(self) -> None:
        """End it for good, from any thread; whoever is asking gets no answer."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        if not there_is(self._folder, self._models, self._ranks):
            raise NoTokenizer(f"nothing to load in {self._folder}")
        with self._lock:
            if self._ended:
                raise HelperError("ended")
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.tokens", str(self._folder), str(self._ranks), *self._models],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT,
            )
        loaded = self._exchange(process, b"", LOAD_SECONDS)
        if "by" not in loaded:
            raise HelperError(str(loaded.get("error")))
        self.by = loaded["by"]
        return process

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes, seconds: float) -> dict[str, Any]:
        """Send a line, if there is one, and read the next. Raises HelperError, OSError."""
        if process.stdin is None or process.stdout is None:
            raise HelperError("it has no pipes")
        if line:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        end, read, poll = monotonic() + seconds, b"", select.poll()
        poll.register(process.stdout, select.POLLIN)
        while not read.endswith(b"\n"):
            if not poll.poll(max(end - monotonic(), 0.0) * 1000):
                raise HelperError("it took too long")
            chunk = os.read(process.stdout.fileno(), _CHUNK)
            if not chunk:
                raise HelperError("it ended")
            read += chunk
        answer: dict[str, Any] = orjson.loads(read)
        return answer
