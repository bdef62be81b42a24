"""One step of making a part: run a command, say how long it took, and explain it where it fails."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from parts.part import PartError

TAIL_LINES = 8
SAY_EVERY = 20.0
"""Seconds between two lines of progress."""

# Words in a failed command's output, and what its reader can do about them. The first match wins.
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("no space left on device", "disk quota exceeded"),
        "free some space there, or point TOKEN_METER_CACHE (parts) and TMPDIR (builds) to a larger disk",
    ),
    (
        ("hash mismatch", "do not match the hashes", "checksum mismatch", "security error"),
        "the registry gave another file than the one pinned here: do not use it; clear the package "
        "manager's cache and try again, and if it stays ask who runs the registry",
    ),
    (
        (
            "dns error",
            "no such host",
            "name resolution",
            "connection refused",
            "network is unreachable",
            "timed out",
            "i/o timeout",
            "failed to fetch",
            "error sending request",
            "connection reset",
            "no route to host",
        ),
        "this step needs the network: check the connection and its settings (HTTPS_PROXY; UV_DEFAULT_INDEX "
        "for Python packages, GOPROXY for Go modules)",
    ),
    (
        ("permission denied", "read-only file system"),
        "let this user write there, or point TOKEN_METER_CACHE elsewhere",
    ),
)


def say(text: str) -> None:
    """One line of progress, on stderr."""
    print(f"parts: {text}", file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what begins, and how many seconds it took once it is done."""
    say(f"{what} ...")
    start = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - start:.1f} s")


def advice(output: str) -> str:
    """What to do about a command that failed with this output."""
    low = output.lower()
    return next(
        (text for words, text in _ADVICE if any(word in low for word in words)),
        "see the lines above; `python -m parts` tries again",
    )


def run(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    listener: Callable[[str], None] = lambda _line: None,
) -> str:
    """Run a command to its end and return what it printed; raises PartError with the tail of it.

    `listener` gets each line as it comes.
    """
    lines: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise PartError(failure(name, f"`{shlex.join(command)}` cannot be run", str(error))) from None
    with process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                listener(line)
        except BaseException:  # nobody waits for it any more, Ctrl-C included
            process.kill()
            raise
    if process.returncode:
        what = f"`{shlex.join(command)}` ended with {process.returncode}"
        raise PartError(failure(name, what, "".join(lines)))
    return "".join(lines)


def counter(name: str, what: str) -> Callable[[str], None]:
    """A listener that says now and then how many lines there have been, so that a long step is seen to live."""
    count, said = 0, time.monotonic()

    def listen(_line: str) -> None:
        nonlocal count, said
        count += 1
        if time.monotonic() - said >= SAY_EVERY:
            said = time.monotonic()
            say(f"{name}: {count} {what}")

    return listen


def failure(name: str, what: str, output: str) -> str:
    """The text of a PartError: one line of what failed, the tail of the output, what to do."""
    tail = [line.rstrip() for line in output.splitlines() if line.strip()][-TAIL_LINES:]
    return "\n".join([f"{name}: {what}", *(f"  {line}" for line in tail), f"To do: {advice(output)}"])
