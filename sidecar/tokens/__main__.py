"""`python -m sidecar.tokens FOLDER RANKS [MODEL ...]`: the tokenizer in a process of its own, one job a line.

It may be killed at any time, and is where it takes too long: a chat template is a program that comes with the model.
Its memory is bounded, it is the first to go where memory is short, and it yields the processor to the proxy.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Any

import orjson

from sidecar.tokens.local import LocalTokenizer

_MEMORY = 1024 * 1024 * 1024


def main() -> int:
    """Say by what it counts, then answer job by job until the input ends; the exit code, 1 with nothing to load."""
    _limit()
    folder, ranks, *models = sys.argv[1:]
    try:
        local = LocalTokenizer(Path(folder), models, Path(ranks))
    except Exception as error:  # noqa: BLE001 files of others: whatever ails them, the reason is told
        _say({"error": f"{type(error).__name__}: {error}"[:500]})
        return 1
    _say({"by": local.by})
    for line in sys.stdin.buffer:
        _say({"count": _do(local, orjson.loads(line))})
    return 0


def _do(local: LocalTokenizer, job: dict[str, Any]) -> int | None:
    """The job's count; None where it has none, fails or asks for too much memory."""
    try:
        return local.chat(job["chat"]) if "chat" in job else local.texts(job["texts"], special=job["special"])
    except Exception:  # noqa: BLE001 a template may raise anything
        return None


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    os.nice(5)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
