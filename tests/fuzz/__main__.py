"""`make fuzz`: every target, or those that are named, for so many seconds each."""

import argparse
import sys
from pathlib import Path

from tests.fuzz.runs import REPOSITORY, run
from tests.fuzz.targets import NAMES


def main() -> int:
    """Fuzz one target after the other; 1 where there was a finding."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all without")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".fuzz", help="what is learnt and found")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    found = 0
    for name in given.targets or NAMES:
        result = run(name, given.folder / name, f"-max_total_time={given.seconds}")
        print(f"{name:18} {result.executions:>9} executions, corpus {result.corpus:>5}", end="")
        print(f", FINDING {result.finding}\n{result.said}" if result.finding else "", flush=True)
        found += result.finding is not None
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
