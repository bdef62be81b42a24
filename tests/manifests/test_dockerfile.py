"""The Dockerfile: what stands in the images, and as whom they run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("target", ["sidecar", "controller"])
def test_an_image_runs_unprivileged_with_nothing_of_the_build_but_the_environment(target: str) -> None:
    stage = STAGES[target]
    assert "USER 65532:65532" in stage
    assert re.findall(r"^COPY (.*)$", stage, re.MULTILINE) == [
        f"--from=build-{target} /opt/token-meter /opt/token-meter",
        f"--from=app-{target} /opt/token-meter/app /opt/token-meter/app",
    ]
    assert "RUN" not in stage


@pytest.mark.parametrize("target", ["sidecar", "controller"])
def test_dependencies_are_locked_by_hash_and_built_by_nobody_here(target: str) -> None:
    stage = STAGES[f"build-{target}"]
    flags = " ".join(stage.replace("\\\n", "").split())
    assert f"--require-hashes --only-binary=:all: -r requirements/{target}.txt" in flags


@pytest.mark.parametrize("name", ["sidecar", "controller", "ledger", "cli", "demo"])
def test_images_have_the_versions_that_the_tests_run_with(name: str) -> None:
    pins, tested = _pins(name), _pins("dev")
    assert {package: tested.get(package) for package in pins} == pins


def test_the_sidecar_carries_nothing_of_the_controller() -> None:
    assert set(re.findall(r"^COPY (\w+) /opt", STAGES["app-sidecar"], re.MULTILINE)) == {"sidecar"}
    locked = (ROOT / "requirements" / "sidecar.txt").read_text()
    assert not re.search(r"^(kubernetes|aiohttp|cryptography)==", locked, re.MULTILINE)


def test_every_folder_that_is_copied_is_in_the_build_context() -> None:
    context = (ROOT / ".dockerignore").read_text()
    for folder in re.findall(r"^COPY (\w+) /opt", TEXT, re.MULTILINE):
        assert (ROOT / folder).is_dir()
        assert f"!{folder}/**" in context


def test_the_base_image_is_an_argument() -> None:
    assert re.search(r"^ARG BASE=\S+$", TEXT, re.MULTILINE)
    assert "FROM ${BASE} AS sidecar" in TEXT
    assert "FROM ${BASE} AS controller" in TEXT


def _pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements file."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))
