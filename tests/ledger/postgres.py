"""A real PostgreSQL server for the tests, on a Unix socket in a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = "nobody"


def programs() -> Path | None:
    """The folder of Debian's PostgreSQL programs, of whatever version; None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    given = shutil.which("initdb")
    return Path(given).parent if given else None


class Server:
    """One that can be stopped, killed and started again."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self._folder = folder
        self._bin = bin_folder
        # PostgreSQL does not run as root.
        self._user = _USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(folder, self._user)
        self._run("initdb", "-D", f"{folder}/data", "-U", "ledger", "-A", "trust", "--no-sync")

    def url(self, database: str) -> str:
        """For the ledger's settings."""
        return f"postgresql://ledger@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [f"{self._bin}/postgres", "-D", f"{self._folder}/data", "-k", str(self._folder), "-h", ""]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd="/")
        end = time.monotonic() + 60
        while subprocess.run(
            [f"{self._bin}/pg_isready", "-h", str(self._folder), "-q"], check=False
        ).returncode:
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, cutting its clients off."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def create(self, database: str) -> str:
        """A new empty database's URL."""
        self._run("createdb", "-h", str(self._folder), "-U", "ledger", database)
        return self.url(database)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [f"{self._bin}/{program}", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd="/",
        )


@contextmanager
def running() -> Iterator[Server]:
    """A server for as long as the block lasts."""
    bin_folder = programs()
    assert bin_folder is not None
    # A Unix socket's path has to be short, and its folder within reach of the other user.
    with tempfile.TemporaryDirectory(prefix="tm-pg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        server = Server(Path(name), bin_folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
