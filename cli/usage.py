"""`token-meter usage`: who has used how many tokens, as the ledger has it."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from certs.api import Config, ConfigError, load_config

SYSTEM = "token-meter-system"
_SERVICE = f"/api/v1/namespaces/{SYSTEM}/services/http:token-meter-ledger:http/proxy"
_HEADER = "X-Token-Meter-Token"
_FILTERS = ("namespace", "service", "user", "model", "endpoint", "channel", "outcome", "exact")
_COLUMNS = (
    "requests",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
)


class UsageError(Exception):
    """The ledger has not answered; the text says why and what to do."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument(
        "--by",
        default="namespace,service,user,model",
        metavar="NAMES",
        help="group by these, comma separated: user, model, namespace, service, endpoint, channel, outcome, exact,"
        " hour, day (default: %(default)s)",
    )
    parser.add_argument(
        "--from", dest="start", default="24h", metavar="TIME", help="RFC 3339, or so long ago: 90m, 24h, 7d"
    )
    parser.add_argument(
        "--to", dest="end", default="0m", metavar="TIME", help="the same; now unless it is given"
    )
    for name in _FILTERS:
        parser.add_argument(f"--{name}", action="append", default=[], metavar="VALUE", help=argparse.SUPPRESS)
    parser.add_argument(
        "--sort", help="a column, with a - before it for the most first: --sort=-input_tokens"
    )
    parser.add_argument("--limit", type=int, default=100, help="rows at most (default: %(default)s)")
    parser.add_argument("-o", "--output", choices=["table", "json", "csv"], default="table")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="again every 5 (or so many) seconds",
    )
    parser.add_argument(
        "--url", help="the ledger; by default it is reached through the kubeconfig's API server"
    )
    parser.add_argument(
        "--token-file", type=Path, help="a token for the ledger, where the kubeconfig has none"
    )
    parser.epilog = (
        "Only these: --namespace, --service, --user, --model, --endpoint, --channel, --outcome, --exact VALUE, each"
        " more than once if need be. Exit code: 0 well, 1 the ledger did not answer, 2 wrong usage."
    )


def run(args: argparse.Namespace) -> int:
    """Ask and print; the exit code."""
    try:
        while True:
            text = asyncio.run(_ask(args))
            if args.watch and sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            sys.stdout.write(render(text, args.output))
            sys.stdout.flush()
            if not args.watch:
                return 0
            time.sleep(args.watch)
    except (UsageError, ConfigError) as error:
        print(f"token-meter usage: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130


def render(answer: str, output: str) -> str:
    """The ledger's answer as it is printed. Pure."""
    if output == "csv":
        return answer
    usage = json.loads(answer)
    return json.dumps(usage, indent=2) + "\n" if output == "json" else _table(usage)


def _table(usage: dict[str, Any]) -> str:
    groups = usage["group_by"]
    lines = [[name.upper() for name in (*groups, *_COLUMNS)]]
    lines += [[_cell(row[name]) for name in (*groups, *_COLUMNS)] for row in usage["rows"]]
    if groups:
        lines.append(
            ["TOTAL", *[""] * (len(groups) - 1), *(_cell(usage["total"][name]) for name in _COLUMNS)]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if place < len(groups) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    more = "\nThere are more rows: --limit" if usage["truncated"] else ""
    return f"{text}\n{usage['from']} to {usage['to']}{more}\n"


def _cell(value: Any) -> str:
    """Control characters of a user's name must not reach the terminal."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value) or "-"


def _query(args: argparse.Namespace) -> list[tuple[str, str]]:
    asked = [("group_by", args.by), ("from", args.start), ("to", args.end), ("limit", str(args.limit))]
    asked += [(name, value) for name in _FILTERS for value in getattr(args, name)]
    if args.sort:
        asked.append(("sort", args.sort))
    return [*asked, ("format", "csv" if args.output == "csv" else "json")]


async def _ask(args: argparse.Namespace) -> str:
    query = urlencode(_query(args))
    token = args.token_file.read_text().strip() if args.token_file else None
    if args.url:
        return await _get(f"{args.url.rstrip('/')}/api/v1/usage?{query}", Config(args.url), token)
    config = load_config()
    token = token or _bearer(config)
    if token is None:
        raise UsageError(
            "the kubeconfig logs in without a token, and the ledger knows callers by theirs; give one:"
            " --token-file <(kubectl create token SERVICEACCOUNT)"
        )
    return await _get(f"{config.url}{_SERVICE}/api/v1/usage?{query}", config, token)


async def _get(url: str, config: Config, token: str | None) -> str:
    headers = {_HEADER: token} if token else {}
    if authorization := config.authorization():
        headers["Authorization"] = authorization
    connector = aiohttp.TCPConnector(ssl=config.tls if config.tls else True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.get(url, headers=headers) as response,
        ):
            text = await response.text()
            if response.status == 200:
                return text
            raise UsageError(_refused(response.status, text))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UsageError(
            f"no answer from {url.partition('/api/')[0]}: {error or type(error).__name__}"
        ) from None


def _refused(status: int, text: str) -> str:
    try:
        body = json.loads(text)
        why = body.get("detail") or body.get("message") or text
    except (json.JSONDecodeError, AttributeError):
        why = text.strip()[:200]
    hint = ""
    if status == 404:
        hint = f"; is the ledger installed? kubectl -n {SYSTEM} get service token-meter-ledger"
    if status == 503:
        hint = f"; kubectl -n {SYSTEM} logs deployment/token-meter-ledger"
    return f"{status}: {why}{hint}"


def _bearer(config: Config) -> str | None:
    kind, _, token = (config.authorization() or "").partition(" ")
    return token if kind == "Bearer" and token else None
