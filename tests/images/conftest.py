"""Both images, built once."""

from pathlib import Path

import pytest

from tests.images import archive, builder
from tests.images.archive import Image


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """Target -> what is in its image."""
    if reason := builder.unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("images")
    return {target: look(builder.build(target), folder / f"{target}.tar") for target in builder.TARGETS}


def look(image: str, file: Path) -> Image:
    """What is in an image; its archive does not stay."""
    builder.builder().save(image, file)
    found = archive.read(file)
    file.unlink()
    return found
