"""`token-meter`: one command; each subcommand is a module of this folder, imported only when it is asked for.

A subcommand's module offers `configure(parser)` and `run(args) -> exit code`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

COMMANDS = {
    "inject": "show an InferenceService as the webhook would store it",
    "render": "print the gateway objects that the controller makes for an InferenceService",
    "check": "say whether the cluster is fit, and what mends it where it is not",
    "rotate": "give an InferenceService a new key, without a request that fails",
    "adopt": "put the sidecar into an InferenceService that was there before its namespace was labelled",
    "webhook": "run the admission webhook, configured by its TOKEN_METER_WEBHOOK_ environment",
    "gateway": "run the controller of the gateway objects, configured by its TOKEN_METER_GATEWAY_ environment",
    "usage": "print who has used how many tokens, as the ledger has it",
    "ledger": "run the ledger of usage events, configured by its TOKEN_METER_LEDGER_ environment",
    "sidecar": "run the metering proxy, configured by its TOKEN_METER_ environment",
    "demo": "play the guide end to end: a real model, Envoy and rate limits on this machine",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 well, 1 failed, 2 wrong usage)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="token-meter", description="Token metering for KServe behind Envoy AI Gateway."
    )
    parser.add_argument("--version", action="version", version=f"token-meter {version('kserve-token-meter')}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        # Only the chosen command's module is imported: `sidecar` has to be up in under a second.
        chosen = next((word for word in argv if not word.startswith("-")), None) == name
        subparser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if chosen:
            module = importlib.import_module(f"cli.{name}")
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
