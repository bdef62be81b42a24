"""The tokenizer's process: what fails is tried again, what does not end is ended, and nothing stays behind."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.tokens.helper import Helper, HelperError, NoTokenizer
from sidecar.tokens.local import LocalTokenizer
from tests.sidecar.process import eventually
from tests.sidecar.tokens.words import children, put

JOB: dict[str, Any] = {"texts": ["a b a"], "special": False}
CHAT: dict[str, Any] = {"chat": {"messages": []}}
FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HUGE = (
    "{% set ns = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
    "{{ ns.x }}"
)


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    """Tried again at once."""
    helper = Helper(tmp_path, job_seconds=60.0, retry_seconds=0.0)
    yield helper
    helper.end()


def test_a_tokenizer_that_comes_later_is_found(helper: Helper, tmp_path: Path) -> None:
    with pytest.raises(NoTokenizer):
        helper.ask(JOB)
    put(tmp_path)
    assert (helper.ask(JOB), helper.by) == (3, "tokenizer")


def test_a_load_that_failed_is_tried_again(helper: Helper, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(HelperError, match=r"expected|EOF"):
        helper.ask(JOB)
    assert helper.problem
    put(tmp_path)
    assert helper.ask(JOB) == 3


def test_what_failed_is_not_tried_with_every_request(tmp_path: Path) -> None:
    helper = Helper(tmp_path, retry_seconds=3600.0)
    with pytest.raises(NoTokenizer):
        helper.ask(JOB)
    put(tmp_path)
    with pytest.raises(HelperError, match="short while ago"):
        helper.ask(JOB)


def test_a_template_that_does_not_end_is_ended_and_others_are_counted_again(tmp_path: Path) -> None:
    helper = Helper(put(tmp_path, FOR_EVER), job_seconds=5.0, retry_seconds=0.0)
    before = children()
    with pytest.raises(HelperError, match="too long"):
        helper.ask(CHAT)
    assert children() <= before
    assert helper.ask(JOB) == 3
    helper.end()


def test_a_template_that_wants_all_memory_gets_none(helper: Helper, tmp_path: Path) -> None:
    put(tmp_path, HUGE)
    assert helper.ask(CHAT) is None
    assert helper.ask(JOB) == 3


def test_a_helper_that_was_killed_is_started_again(helper: Helper, tmp_path: Path) -> None:
    put(tmp_path)
    before = children()
    assert helper.ask(JOB) == 3
    (pid,) = children() - before
    os.kill(pid, 9)
    with pytest.raises(HelperError):
        helper.ask(JOB)
    assert helper.ask(JOB) == 3


def test_the_end_does_not_wait_for_a_job_and_leaves_no_process(tmp_path: Path) -> None:
    put(tmp_path, FOR_EVER)
    helper = Helper(tmp_path, job_seconds=600.0)
    before, failed = children(), threading.Event()

    def ask() -> None:
        with pytest.raises(HelperError):
            helper.ask(CHAT)
        failed.set()

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: children() - before, "the helper is started")
    helper.kill()
    assert failed.wait(60)
    thread.join()
    assert children() <= before
    with pytest.raises(HelperError):
        helper.ask(JOB)


def test_what_does_not_fit_into_the_memory_limit_is_not_loaded(tmp_path: Path) -> None:
    put(tmp_path)
    size = (tmp_path / "tokenizer.json").stat().st_size
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text(f"{1000000 + size * 5}\n")
    with pytest.raises(MemoryError, match="does not fit"):
        LocalTokenizer(tmp_path, [], cgroup=tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert LocalTokenizer(tmp_path, [], cgroup=tmp_path).texts(["a"], special=False) == 1
