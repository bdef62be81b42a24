"""`token-meter rotate NAMESPACE/NAME`: a new key for an InferenceService, without a request that fails.

Gateway and sidecars see a changed Secret at different times, up to a minute and a half apart (the kubelet's period,
and its cache). So sidecars learn the new key first, then the gateway shows it, then the old one is forgotten. How far
it is stands in the Secret alone: what was interrupted goes on when it is called again.
"""

import argparse
import asyncio
import base64
import secrets
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from certs.api import UNREACHABLE, Api, ApiError, ConfigError, load_config
from isvc.names import KEY_FIELD, NEXT_KEY_FIELD, PREVIOUS_KEY_FIELD, api_key_secret

Object = dict[str, Any]
WAIT = 120.0
FIELDS = (KEY_FIELD, NEXT_KEY_FIELD, PREVIOUS_KEY_FIELD)


class Refused(Exception):
    """It cannot be done; the text says why and what to do."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument("service", metavar="NAMESPACE/NAME", help="the InferenceService")
    parser.add_argument(
        "--wait", type=float, default=WAIT, help="seconds until all have seen a change (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Do it; the exit code (0 done, 1 refused, 2 no cluster was reached)."""
    namespace, slash, name = args.service.partition("/")
    if not (namespace and slash and name) or "/" in name:
        print("token-meter rotate: name it as NAMESPACE/NAME", file=sys.stderr)
        return 2
    try:
        asyncio.run(_rotate(namespace, name, args.wait))
    except Refused as error:
        print(f"token-meter rotate: {error}", file=sys.stderr)
        return 1
    except (ConfigError, ApiError, *UNREACHABLE) as error:
        print(f"token-meter rotate: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("token-meter rotate: call it again, and it goes on where it is", file=sys.stderr)
        return 1
    return 0


def steps(data: Mapping[str, str], new: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What is still to be done: what to say, and the Secret's keys then. Each waits for the one before. Pure."""
    data = {field: data[field] for field in FIELDS if field in data}
    if NEXT_KEY_FIELD not in data and PREVIOUS_KEY_FIELD not in data:
        data[NEXT_KEY_FIELD] = new
        yield "the sidecars learn the new key", dict(data)
    if NEXT_KEY_FIELD in data:
        data[PREVIOUS_KEY_FIELD], data[KEY_FIELD] = data[KEY_FIELD], data.pop(NEXT_KEY_FIELD)
        yield "the gateway shows the new key", dict(data)
    del data[PREVIOUS_KEY_FIELD]
    yield "the old key is forgotten", dict(data)


async def _rotate(namespace: str, name: str, wait: float) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets/{api_key_secret(name)}"
    async with Api(load_config(), timeout=30.0) as api:
        stored = await _read(api, path, f"{namespace}/{name}")
        new = base64.b64encode(secrets.token_hex(32).encode()).decode()
        # What an earlier call had begun may have been a moment ago.
        resumed = stored["data"].keys() & {NEXT_KEY_FIELD, PREVIOUS_KEY_FIELD}
        for number, (text, keys) in enumerate(steps(stored["data"], new)):
            if number or resumed:
                await asyncio.sleep(wait)
                stored = await _read(api, path, f"{namespace}/{name}")
            others = {field: value for field, value in stored["data"].items() if field not in FIELDS}
            await api.put(path, {**stored, "data": others | keys})
            print(f"{namespace}/{name}: {text}", flush=True)


async def _read(api: Api, path: str, what: str) -> Object:
    try:
        found = await api.get(path)
    except ApiError as error:
        if error.status == 404:
            raise Refused(
                f"{what} has no key: it has no sidecar, its access is open, or the controller has not come to it yet"
                " (token-meter check)"
            ) from None
        raise
    if not (found.get("data") or {}).get(KEY_FIELD):
        raise Refused(f"the Secret of {what} holds no {KEY_FIELD}; the controller makes one within a minute")
    return found
