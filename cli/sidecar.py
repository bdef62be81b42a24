"""`token-meter sidecar`: the metering proxy."""

import argparse

from sidecar.server import main


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no options: the injection configures it by its environment."""
    parser.epilog = "Settings are environment variables named TOKEN_METER_*; see docs/sidecar.md."


def run(args: argparse.Namespace) -> int:
    """Run it until SIGTERM."""
    return main()
