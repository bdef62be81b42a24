"""Child processes of the demo: watched while it runs, ended whatever happens."""

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import Child, DemoError, free_ports, listening, running

SLEEP = ["sleep", "1000"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_children_end_with_the_block(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        children = [processes.start(name, SLEEP) for name in ("one", "two")]
        assert all(alive(child.process.pid) for child in children)
    assert not any(alive(child.process.pid) for child in children)


def test_children_end_when_the_block_raises(tmp_path: Path) -> None:
    def failing() -> None:
        with running(tmp_path) as processes:
            children.append(processes.start("one", SLEEP))
            raise KeyError

    children: list[Child] = []
    with pytest.raises(KeyError):
        failing()
    assert not alive(children[0].process.pid)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.processes.GRACE", 0.1)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    with running(tmp_path) as processes:
        child = processes.start("deaf", [sys.executable, "-c", deaf])
        processes.wait(child, lambda: "up" in child.log.read_text(), 20)
    assert child.process.returncode == -signal.SIGKILL


def test_signal_handlers_are_as_before(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with running(tmp_path):
        pass
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_dead_child_is_named_with_its_last_lines_and_what_to_do(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        child = processes.start("envoy", ["sh", "-c", "echo last words; exit 3"], hint="look there")
        child.process.wait()
        with pytest.raises(DemoError) as caught:
            processes.check()
    assert (
        str(caught.value)
        == "envoy ended by itself (exit code 3). Its last lines:\n  last words\nTo do: look there"
    )


def test_a_killed_child_is_said_to_be_killed(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        child = processes.start("model", SLEEP)
        child.process.kill()
        child.process.wait()
        with pytest.raises(DemoError, match="model was killed by SIGKILL"):
            processes.check()


def test_waiting_for_a_child_that_dies_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        child = processes.start("model", ["false"])
        with pytest.raises(DemoError, match=r"model ended by itself \(exit code 1\)"):
            processes.wait(child, lambda: False, 600)


def test_waiting_too_long_says_so(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        child = processes.start("model", SLEEP)
        with pytest.raises(DemoError, match="model is not ready after 0 s"):
            processes.wait(child, lambda: False, 0)


@pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="setpriv (util-linux) ties children to their parent"
)
def test_children_end_when_their_parent_is_killed_outright(tmp_path: Path) -> None:
    script = """
import pathlib, sys, time
from demo.processes import running
with running(pathlib.Path(sys.argv[1])) as processes:
    child = processes.start("one", ["sleep", "1000"]).process.pid
    # setpriv first ties the child to its parent, then becomes the program.
    while pathlib.Path(f"/proc/{child}/comm").read_text().strip() != "sleep":
        time.sleep(0.01)
    print(child, flush=True)
    time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    # Nobody of ours is its parent any more: what is seen here is that it goes, soon.
    fd = os.pidfd_open(pid) if alive(pid) else None
    if fd is not None:
        gone, _, _ = select.select([fd], [], [], 20)
        os.close(fd)
        assert gone


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(9)
    assert len(set(ports)) == 9
    assert not any(listening(port) for port in ports)
