"""`make bench`: what the parts cost, compared within one run. Writes docs/benchmarks.md, its JSON and its chart."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import admission, controller, ledger, proxies, report

SECTIONS = ("proxies", "ledger", "admission", "controller")


def main() -> int:
    """Run what is asked for and write the report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON in place of Markdown")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contestant (default %(default)s)")
    parser.add_argument("--only", choices=SECTIONS, help="one section, printed and not written")
    parser.add_argument(
        "--case", default="", help="only the proxies' cases whose name has this in it; not written"
    )
    parser.add_argument(
        "--without", nargs="*", default=[], help="contestants to leave out: nginx, aiohttp, litellm"
    )
    parser.add_argument(
        "--services", type=int, default=controller.SERVICES, help="InferenceServices (%(default)s)"
    )
    args = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    run: dict[str, tuple[Callable[[], Any], Callable[[Any], str]]] = {
        "proxies": (
            lambda: proxies.measure(args.rounds, args.case, say, without=args.without),
            report.markdown,
        ),
        "ledger": (lambda: ledger.measure(args.rounds, say), ledger.markdown),
        "admission": (lambda: admission.compare(args.rounds, say), admission.markdown),
        "controller": (lambda: controller.measure(args.services, say), controller.markdown),
    }
    only = args.only or ("proxies" if args.case else None)
    results: dict[str, Any] = {}
    for name, (measure, _) in run.items():
        if only in (None, name):
            say(f"{name}:")
            results[name] = measure()
    if args.json:
        print(json.dumps(results))
        return 0
    text = "\n\n".join(run[name][1](found) for name, found in results.items())
    if only:
        print(text)
    else:
        _write(results, text)
        say(f"written: {report.DOCS / 'benchmarks.md'}")
    return 0


def _write(results: dict[str, Any], text: str) -> None:
    head = (
        "# Benchmarks\n\nMade by `make bench`; do not edit. "
        f"{report.where_and_when()} Every comparison is interleaved within one run; medians of the "
        "rounds. The figures behind it: [benchmarks.json](benchmarks.json).\n\n"
        "![CPU for each chunk](benchmarks.svg)\n\n"
    )
    (report.DOCS / "benchmarks.md").write_text(f"{head}{text}\n")
    (report.DOCS / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    (report.DOCS / "benchmarks.svg").write_text(report.chart(results["proxies"]))


if __name__ == "__main__":
    sys.exit(main())
