"""`token-meter ledger`: where usage events are kept."""

import argparse

from ledger.server import main
from ledger.settings import described


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no options: its environment configures it."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = [f"  {name}\n      {text} (default: {default})" for name, default, text in described()]
    parser.epilog = "\n".join(["Settings are environment variables:", "", *lines])


def run(args: argparse.Namespace) -> int:
    """Run it until SIGTERM."""
    return main()
