"""`make images`: build both images, and write each to build/images, for `docker load` or `ctr images import`."""

import sys

from demo.processes import DemoError
from parts import PartError
from tests.images import archive, builder

FOLDER = builder.REPOSITORY / "build" / "images"


def main() -> int:
    try:
        for target in builder.TARGETS:
            image = builder.build(target)
            file = FOLDER / f"{target}.tar"
            file.parent.mkdir(parents=True, exist_ok=True)
            builder.builder().save(image, file)
            own = sum(found.size for found in archive.read(file).own.values())
            print(
                f"{image}  {file.relative_to(builder.REPOSITORY)}  {own / 1e6:.0f} MB on its base", flush=True
            )
    except (DemoError, PartError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
