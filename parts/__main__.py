"""`python -m parts [NAME...]`: make the named parts, or all, and print where each one is."""

import argparse
import sys

from parts.catalog import PARTS, path
from parts.part import PartError


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m parts", description="Fetch and build the real parts, once."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PARTS)} (default: all)")
    try:
        for name in parser.parse_args().names or PARTS:
            print(f"{name:10} {path(name)}", flush=True)
    except PartError as error:
        print(f"parts: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("parts: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
