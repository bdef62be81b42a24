"""Reviews at a constant rate, over TLS. `python -m benchmarks.webhook_load PORT PATH RATE SECONDS` prints JSON.

Open loop: a review is sent when its time has come, whether or not the one before was answered; its latency counts
from then. The object is the guide's InferenceService, grown to 50 KiB by what real ones are grown by: environment
variables and annotations.
"""

import asyncio
import ssl
import sys
import uuid
from pathlib import Path
from time import monotonic

import aiohttp
import orjson
from ruamel.yaml import YAML

_GUIDE = Path(__file__).parent.parent / "demo" / "inferenceservice.yaml"
_SIZE = 50 * 1024


def review() -> bytes:
    """A CREATE of a 50 KiB InferenceService."""
    obj = YAML(typ="safe").load(_GUIDE.read_text())
    model = obj["spec"]["predictor"]["model"]
    model["env"] += [{"name": f"SETTING_{number}", "value": "x" * 60} for number in range(100)]
    missing = _SIZE - len(orjson.dumps(obj))
    obj["metadata"].setdefault("annotations", {})["example.com/notes"] = "x" * missing
    request = {
        "uid": str(uuid.uuid4()),
        "operation": "CREATE",
        "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
        "resource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
        "name": obj["metadata"]["name"],
        "namespace": obj["metadata"]["namespace"],
        "object": obj,
        "oldObject": None,
        "dryRun": False,
    }
    return orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


async def _main(port: int, path: str, rate: float, seconds: float) -> dict[str, float]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the server's certificate is its own, made for this run
    body = review()
    latencies: list[float] = []
    patched = 0

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=16)) as session:

        async def one(due: float) -> None:
            nonlocal patched
            headers = {"content-type": "application/json"}
            async with session.post(f"https://127.0.0.1:{port}{path}", data=body, headers=headers) as answer:
                told = await answer.read()
            latencies.append(monotonic() - due)
            patched += b'"patch"' in told

        for _ in range(20):
            await one(monotonic())
        latencies.clear()
        patched = 0
        begun = monotonic()
        tasks = []
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(due - monotonic(), 0))
            tasks.append(asyncio.ensure_future(one(due)))
        await asyncio.gather(*tasks)
    latencies.sort()
    return {
        "reviews": len(latencies),
        "patched": patched,
        "bytes": len(body),
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
    }


if __name__ == "__main__":
    figures = asyncio.run(_main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
    print(orjson.dumps(figures).decode())
