"""What is in the images, as they are built: enough to run as anybody, and nothing else."""

import tomllib
from pathlib import Path, PurePosixPath

import pytest

from tests.images import builder
from tests.images.archive import Image
from tests.images.conftest import look

pytestmark = pytest.mark.xdist_group("images")
of_both = pytest.mark.parametrize("target", builder.TARGETS)
PROJECT = tomllib.loads((builder.REPOSITORY / "pyproject.toml").read_text())["project"]
BUILD_TOOLS = {
    "pip",
    "ensurepip",
    "setuptools",
    "wheel",
    "gcc",
    "cc",
    "c++",
    "clang",
    "ld",
    "make",
    "cargo",
    "go",
}
LABEL = "org.opencontainers.image"
SIDECAR_MEGABYTES = 80
"""Of what stands on the base: it is pulled by every node that serves a model."""

Images = dict[str, Image]


@of_both
def test_all_of_it_stands_in_one_folder_that_any_user_may_read(images: Images, target: str) -> None:
    own = images[target].own
    assert {path for path in own if not path.startswith("opt")} == set()
    assert {path for path, file in own.items() if not file.readable_by_all()} == set()
    user, group = images[target].config["config"]["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0


@of_both
def test_it_holds_no_compiler_no_installer_and_no_tests(images: Images, target: str) -> None:
    image = images[target]
    in_path = {"bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/token-meter/bin"}
    programs = {PurePosixPath(path) for path in image.files if path.rpartition("/")[0] in in_path}
    packages = {PurePosixPath(path) for path in image.files if path.endswith("-packages/pip")}
    assert {path.name for path in programs | packages} & BUILD_TOOLS == set()
    assert {path for path in image.own if "/tests/" in path} == set()


@of_both
def test_it_keeps_nothing_of_the_machine_that_built_it(images: Images, target: str) -> None:
    assert (
        set(images[target].files) & {"etc/pip.conf", "root/.config/pip/pip.conf", "root/.pip/pip.conf"}
        == set()
    )


@of_both
def test_its_labels_say_what_it_is(images: Images, target: str) -> None:
    labels = images[target].config["config"]["Labels"]
    assert labels[f"{LABEL}.title"] == f"token-meter {target}"
    assert labels[f"{LABEL}.version"] == PROJECT["version"] == builder.VERSION
    assert labels[f"{LABEL}.licenses"] == PROJECT["license"]
    assert f"{LABEL}.source" in labels


@of_both
def test_built_again_it_holds_the_same(images: Images, target: str, tmp_path: Path) -> None:
    again = "token-meter/again:1"
    builder.builder().build(builder.REPOSITORY, again, f"--target={target}", "--no-cache")
    first, second = (
        image.below("opt/token-meter") for image in (images[target], look(again, tmp_path / "again.tar"))
    )
    builder.builder().remove(again)
    assert {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)} == set()
    assert "opt/token-meter/bin/python" in first


def test_the_sidecar_is_small_and_knows_no_kubernetes(images: Images) -> None:
    own = images["sidecar"].own
    packages = {path.split("/")[5] for path in own if "/site-packages/" in path}
    assert packages & {"kubernetes", "aiohttp", "cryptography", "grpc", "sqlalchemy"} == set()
    assert sum(file.size for file in own.values()) < SIDECAR_MEGABYTES * 1_000_000
