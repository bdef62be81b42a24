"""`token-meter demo`: the guide, end to end, with real programs on this machine."""

import argparse
import json
import os
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument(
        "--json", action="store_true", help="print the outcome as one JSON object and nothing else"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running until Ctrl-C, with curl lines"
    )


def run(args: argparse.Namespace) -> int:
    """Play it; returns 0 where everything came as the guide promises, 130 after Ctrl-C."""
    try:
        from demo.outcome import Outcome  # noqa: PLC0415 (needs the demo extra, whose absence is said below)
        from demo.processes import DemoError  # noqa: PLC0415
        from demo.report import Report  # noqa: PLC0415
        from demo.run import play  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _say(f"the Python package {error.name} is missing; use `make demo`, or install the `demo` extra")
        return 1

    def done(outcome: Outcome) -> None:
        if args.json:
            print(json.dumps(outcome.as_json()), flush=True)

    try:
        if not args.json:
            play(Report(sys.stdout), done, args.keep)
        elif args.keep:
            play(Report(sys.stderr), done, keep=True)
        else:
            with Path(os.devnull).open("w") as nowhere:
                play(Report(nowhere), done)
    except DemoError as error:
        _say(str(error))
        return 1
    except BrokenPipeError:
        # `| head`: nobody reads on, not even what Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        _say("stopped; everything that was started has ended")
        return 130
    return 0


def _say(text: str) -> None:
    print(f"token-meter demo: {text}", file=sys.stderr)
