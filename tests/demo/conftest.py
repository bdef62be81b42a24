"""The guide's gateway objects, and one real run of the demo for all tests that look at it."""

import copy
import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from demo import scene

DATA = Path(__file__).parent / "data"
DEMO = [sys.executable, "-m", "cli.main", "demo"]
REPOSITORY = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: starts the whole demo (deselect with -m 'not slow')")


class Objects(list[dict[str, Any]]):
    """Gateway objects that a test may change, found by kind."""

    def spec(self, kind: str) -> Any:
        return self[kind]["spec"]

    def __getitem__(self, kind: Any) -> Any:
        return next(item for item in self if item["kind"] == kind)


@pytest.fixture(scope="session")
def _rendered() -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(DATA / "objects.yaml"))


@pytest.fixture
def objects(_rendered: list[dict[str, Any]]) -> Objects:
    return Objects(copy.deepcopy(_rendered))


@pytest.fixture
def gateway() -> dict[str, Any]:
    return scene.load("gateway.yaml")


@dataclass(frozen=True, slots=True)
class Finished:
    """A run of the demo that has ended."""

    code: int
    out: str
    err: str
    left: list[str]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def living_in(folder: Path) -> list[str]:
    """Command lines of the processes that run in a folder; the demo's children do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`token-meter demo --json`, once, also where several workers run the tests."""
    own = tmp_path_factory.mktemp("run").resolve()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _finished(own)
    shared = tmp_path_factory.getbasetemp().parent
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared / "demo.json"
        if not kept.exists():
            kept.write_text(json.dumps(asdict(_finished(own))))
        return Finished(**json.loads(kept.read_text()))


def _finished(folder: Path) -> Finished:
    done = subprocess.run(
        [*DEMO, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        cwd=REPOSITORY,
        check=False,
    )
    left = [*living_in(folder), *map(str, folder.iterdir())]
    return Finished(done.returncode, done.stdout, done.stderr, left)
