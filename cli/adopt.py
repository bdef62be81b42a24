"""`token-meter adopt NAMESPACE/NAME`: ask the webhook about an InferenceService that was there before it.

Any update of the object asks it, one that changes nothing too; the injection that comes of it restarts the pods.
"""

import argparse
import asyncio
import sys
from typing import Any

from certs.api import UNREACHABLE, Api, ApiError, ConfigError, load_config
from cli.checks import services
from cli.checks.snapshot import Snapshot, collect
from isvc import INJECTION_LABEL
from isvc.names import CONTAINER

Object = dict[str, Any]


class Refused(Exception):
    """It cannot be adopted; the text says why and what to do."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument("service", metavar="NAMESPACE/NAME", help="the InferenceService")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask; its pods restart")
    parser.add_argument("--dry-run", action="store_true", help="say what would come of it and change nothing")


def run(args: argparse.Namespace) -> int:
    """Do it; the exit code (0 adopted or already so, 1 refused, 2 no cluster was reached)."""
    namespace, slash, name = args.service.partition("/")
    if not (namespace and slash and name) or "/" in name:
        print("token-meter adopt: name it as NAMESPACE/NAME", file=sys.stderr)
        return 2
    try:
        asyncio.run(_adopt(namespace, name, sure=args.yes, dry=args.dry_run))
    except Refused as error:
        print(f"token-meter adopt: {error}", file=sys.stderr)
        return 1
    except (ConfigError, ApiError, *UNREACHABLE) as error:
        print(f"token-meter adopt: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2
    return 0


async def _adopt(namespace: str, name: str, *, sure: bool, dry: bool) -> None:
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}"
    async with Api(load_config(), timeout=30.0) as api:
        obj = await _read(api, path, f"{namespace}/{name}")
        if has_sidecar(obj):
            print(f"{namespace}/{name} has the sidecar already; nothing is changed")
            return
        if not has_sidecar(await api.put(f"{path}?dryRun=All", obj)):
            raise Refused(why_not(await collect(api), namespace, name))
        if dry:
            print(f"{namespace}/{name} would get the sidecar, and its predictor's pods would restart")
            return
        if not sure and not _agreed(namespace, name):
            raise Refused("nothing is changed; say --yes where nobody can be asked")
        if not has_sidecar(await api.put(path, obj)):
            raise Refused(why_not(await collect(api), namespace, name))
    print(f"{namespace}/{name} has the sidecar; its pods restart now: kubectl -n {namespace} get pods -w")


async def _read(api: Api, path: str, what: str) -> Object:
    try:
        return await api.get(path)
    except ApiError as error:
        if error.status == 404:
            raise Refused(f"there is no InferenceService {what}") from None
        raise


def has_sidecar(obj: Object) -> bool:
    """Whether the stored object has our container, in either mode."""
    predictor = (obj.get("spec") or {}).get("predictor") or {}
    lists = (predictor.get("initContainers") or (), predictor.get("containers") or ())
    return any(container.get("name") == CONTAINER for items in lists for container in items)


def why_not(snapshot: Snapshot, namespace: str, name: str) -> str:
    """Why the webhook leaves it as it is. Pure."""
    labels = next(
        (
            obj["metadata"].get("labels") or {}
            for obj in snapshot.of("namespaces")
            if obj["metadata"]["name"] == namespace
        ),
        {},
    )
    if labels.get(INJECTION_LABEL) not in ("enabled", "annotated"):
        return (
            f"namespace {namespace} does not ask for token-meter; first:"
            f" kubectl label namespace {namespace} {INJECTION_LABEL}=enabled"
        )
    found = services.injected(snapshot)
    for item in found.items:
        service, _, cause = item.partition(": ")
        if service == f"{namespace}/{name}" and "was stored before" not in cause:
            return f"the webhook leaves it as it is: {cause}"
    return (
        "the webhook did not answer, or it was not asked for: see `token-meter check`;"
        ' an InferenceService in an "annotated" namespace has to be annotated token-meter.dev/inject: "true"'
    )


def _agreed(namespace: str, name: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"The sidecar is put into {namespace}/{name}; the pods of its predictor restart for that.")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
