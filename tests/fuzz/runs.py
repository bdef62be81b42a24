"""Running a target in a process of its own, from its corpus."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import load

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended: executions, and where there is a finding the input's file and what was said of it."""

    executions: int
    corpus: int
    finding: Path | None
    said: str


def corpus(name: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted((CORPUS / name).iterdir())


def run(name: str, folder: Path, *limits: str) -> Run:
    """Fuzz one target; `limits` are libFuzzer's. What it learns and finds goes into `folder`."""
    learnt = folder / "learnt"
    learnt.mkdir(parents=True, exist_ok=True)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in load(name).words))
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(learnt), str(CORPUS / name)]
    command += [f"-dict={words}", f"-artifact_prefix={folder}/", f"-max_len={_MOST_BYTES}"]
    command += ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", *limits]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    wrote = re.search(r"Test unit written to (\S+)", done.stdout)
    executions = re.search(r"stat::number_of_executed_units: *(\d+)", done.stdout)
    count = int(executions[1]) if executions else 0
    finding = Path(wrote[1]) if wrote else None
    if done.returncode and finding is None:
        raise RuntimeError(f"{name} did not run: {done.stdout[-3000:]}")
    return Run(count, len(list(learnt.iterdir())), finding, done.stdout[-4000:] if finding else "")


def _escaped(word: str) -> str:
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word.encode()
    )
