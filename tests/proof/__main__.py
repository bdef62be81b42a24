"""`make proof`: 2,000 requests with all that can go wrong, and at the end the ledger beside the server's truth."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.proof import report
from tests.proof.run import run
from tests.proof.scenario import draw

_MOST_SHOWN = 20


def main() -> int:
    """Run the scenario of each seed; 1 where the ledger has anything but what was made."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run for each (default: 1)")
    parser.add_argument("--requests", type=int, default=2000, help="of each run (default %(default)s)")
    parser.add_argument(
        "--kills", type=int, default=5, help="of the sidecar, by SIGKILL (default %(default)s)"
    )
    args = parser.parse_args()
    wrong = 0
    for seed in args.seeds:
        with tempfile.TemporaryDirectory(prefix="token-meter-proof-") as folder:
            begun = time.monotonic()
            result = asyncio.run(run(draw(seed, args.requests, args.kills), Path(folder)))
            seconds = time.monotonic() - begun
        print(
            f"\nSeed {seed}: {len(result.told):,} requests in {seconds:.0f} s, {result.kills} kills, "
            f"{result.batches_repeated} batches whose answer was lost\n\n{report.table(result)}\n"
        )
        found = list(report.differences(result))
        for text in found[:_MOST_SHOWN]:
            print(f"DIFFERENCE: {text}")
        if len(found) > _MOST_SHOWN:
            print(f"... and {len(found) - _MOST_SHOWN} more")
        wrong += len(found)
        sys.stdout.flush()
    print("No difference." if not wrong else f"{wrong} differences.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
