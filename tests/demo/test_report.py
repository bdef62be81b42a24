"""What a person sees: colours on a terminal only, aligned tables, a diff of what changed."""

import io

import pytest

from demo.report import Report

BEFORE = {"spec": {"a": 1}}
AFTER = {"spec": {"a": 1, "b": [2]}}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO) -> str:
    report = Report(stream)
    report.step("first")
    report.diff(BEFORE, AFTER)
    return stream.getvalue()


def test_a_pipe_gets_plain_text() -> None:
    text = shown(io.StringIO())
    assert "\033" not in text
    assert "1. first" in text
    assert "   +  b:\n   +    - 2\n" in text


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[32m+  b:\033[0m" in shown(Terminal())


def test_a_terminal_that_wants_none_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in shown(Terminal())


def test_pieces_of_a_stream_are_written_as_they_come() -> None:
    stream = io.StringIO()
    with Report(stream).streaming("The sea is") as piece:
        piece(" wide\nand")
        assert stream.getvalue() == "   The sea is wide\n   and"


def test_numbers_in_a_table_stand_to_the_right() -> None:
    stream = io.StringIO()
    Report(stream).table(("name", "tokens"), [("model", "5,467"), ("x", "7")])
    assert stream.getvalue() == "   name   tokens\n   model   5,467\n   x           7\n"
