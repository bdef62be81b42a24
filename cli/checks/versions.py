"""KServe, Envoy Gateway and AI Gateway: are they there, new enough, and which versions of their APIs are served?"""

import re
from dataclasses import dataclass

from cli.checks.finding import Check, Finding, State, ok
from cli.checks.snapshot import Snapshot

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Program:
    """A program that has to be in the cluster; `image` ends its controller's image name, `least` is a version."""

    title: str
    image: str
    group: str
    least: tuple[int, int]
    versions: tuple[str, ...]
    docs: str


PROGRAMS = {
    "kserve": Program(
        "KServe", "/kserve-controller", "serving.kserve.io", (0, 17), ("v1beta1",), "https://kserve.github.io"
    ),
    "envoy-gateway": Program(
        "Envoy Gateway",
        "envoyproxy/gateway",
        "gateway.envoyproxy.io",
        (1, 5),
        ("v1alpha1",),
        "https://gateway.envoyproxy.io",
    ),
    "ai-gateway": Program(
        "AI Gateway",
        "/ai-gateway-controller",
        "aigateway.envoyproxy.io",
        (0, 3),
        ("v1beta1", "v1alpha1"),
        "https://aigateway.envoyproxy.io",
    ),
}


def checks() -> tuple[Check, ...]:
    """One for each program."""
    return tuple(
        Check(name, ("deployments",), lambda snapshot, program=program: judge(program, snapshot))  # type: ignore[misc]
        for name, program in PROGRAMS.items()
    )


def judge(program: Program, snapshot: Snapshot) -> Finding:
    """Its API first: without that nothing works; then its controller's version, where its image says one."""
    served = snapshot.groups.get(program.group, ())
    usable = [version for version in program.versions if version in served]
    if not usable:
        what = f"serves {', '.join(served)}" if served else "is not installed"
        return Finding(
            State.FAILURE,
            f"{program.title} {what}; it takes {' or '.join(program.versions)} of {program.group}",
            f"install {program.title} {_dotted(program.least)} or newer: {program.docs}",
        )
    api = f"{program.group}/{usable[0]}"
    images = _images(program, snapshot)
    if not images:
        return Finding(
            State.WARNING,
            f"{api} is served, but no Deployment runs {program.title}'s controller",
            f"see that {program.title} runs (its image name was looked for: ...{program.image})",
        )
    versions = {image: _version(image) for image in images}
    old = [image for image, version in versions.items() if version and version < program.least]
    if old:
        return Finding(
            State.FAILURE,
            f"{program.title} is too old: {', '.join(old)}",
            f"upgrade it to {_dotted(program.least)} or newer: {program.docs}",
        )
    return ok(f"{', '.join(sorted(image.rpartition('/')[2] for image in images))}, {api}")


def _images(program: Program, snapshot: Snapshot) -> set[str]:
    return {
        container["image"]
        for deployment in snapshot.of("deployments")
        for container in deployment["spec"]["template"]["spec"].get("containers") or ()
        if re.split(r"[:@]", container.get("image", ""))[0].endswith(program.image)
    }


def _version(image: str) -> tuple[int, int] | None:
    found = _VERSION.fullmatch(image.rpartition(":")[2].partition("-")[0])
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
