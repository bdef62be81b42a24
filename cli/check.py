"""`token-meter check`: whether the cluster is fit for token-meter, a line a check, each with what mends it."""

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from certs.api import UNREACHABLE, Api, ApiError, ConfigError, load_config
from cli.checks import envoy_gateway, gateways, installation, report, services, versions
from cli.checks.finding import Finding
from cli.checks.snapshot import Snapshot, collect


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.epilog = (
        "The cluster is the kubeconfig's. Exit code: 0 fit, 1 something fails, 2 no cluster was reached."
    )


def run(args: argparse.Namespace) -> int:
    """Look and print; the exit code."""
    try:
        snapshot = asyncio.run(_collect())
    except (ConfigError, ApiError, *UNREACHABLE) as error:
        print(f"token-meter check: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2
    findings = judge(snapshot, datetime.now(UTC))
    if args.output == "json":
        sys.stdout.write(report.as_text_json(findings))
    else:
        sys.stdout.write(report.text(findings, colour=sys.stdout.isatty()))
    return 0 if report.fit(findings) else 1


def judge(snapshot: Snapshot, now: datetime) -> dict[str, Finding]:
    """Every check's finding, by name. Pure."""
    checks = (
        *versions.checks(),
        *envoy_gateway.checks(),
        *installation.checks(now),
        *services.checks(),
        *gateways.checks(),
    )
    return {check.name: check(snapshot) for check in checks}


async def _collect() -> Snapshot:
    async with Api(load_config(), timeout=30.0) as api:
        return await collect(api)
