"""What a node needs of the machine, and whether it has it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo.processes import DemoError

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
"""Program -> the Debian package that it is in."""
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("ptp", "host-local", "loopback")
NAMESPACES = (
    "--mount",
    "--propagation=private",
    "--mount-proc",
    "--net",
    "--ipc",
    "--uts",
    "--pid",
    "--fork",
)
"""unshare's flags: what happens in these is seen by nobody else, and goes with the last process in them."""


def unavailable() -> str | None:
    """Why there can be no node on this machine; None where there can, once `install` has run."""
    if sys.platform != "linux":
        return "a node needs Linux"
    if os.geteuid():
        return "a node needs root"
    if (missing := missing_packages()) and not shutil.which("apt-get"):
        return f"a node needs {', '.join(missing)} (the names are Debian's), which cannot be installed by apt here"
    done = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"a node needs namespaces: {done.stderr.strip()}" if done.returncode else None


def missing_packages() -> list[str]:
    """Debian packages that are to be installed."""
    found = {package for program, package in PACKAGES.items() if not shutil.which(program)}
    if cni_folder() is None:
        found.add("containernetworking-plugins")
    return sorted(found)


def cni_folder() -> Path | None:
    """Where the CNI plugins are."""
    whole = (folder for folder in CNI_FOLDERS if all((folder / name).exists() for name in CNI_PLUGINS))
    return next(whole, None)


def install() -> None:
    """Install what is missing, by apt; raises DemoError."""
    apt(missing_packages())


def apt(packages: list[str]) -> None:
    """Install Debian packages; raises DemoError where that fails."""
    if not packages:
        return
    print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoError(f"apt-get {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
