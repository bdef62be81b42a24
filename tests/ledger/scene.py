"""A week of usage by thousands of users, the same each time: for the page's tests and its pictures.

`python -m tests.ledger.scene FOLDER` writes both pictures of docs/ledger.md into a folder.
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path
from typing import Any

from tests.ledger.browser import browsing
from tests.ledger.process import Ledger, event

PLACES = {
    ("assistants", "llama-70b", "llama-3.3-70b"): 34,
    ("assistants", "qwen-coder", "qwen2.5-coder-32b"): 26,
    ("research", "mixtral", "mixtral-8x7b"): 14,
    ("research", "embeddings", "bge-m3"): 9,
    ("support", "gemma", "gemma-3-12b"): 12,
    ("support", "reranker", "bge-reranker"): 5,
}
FIRST = "alice bob carla dmitri elif farid grace hana ivan jun kemal lena mei noor omar priya quentin rosa sven tara"
LAST = (
    "adams berg costa diaz evans fischer garcia haas ito jansen kaya larsen moreau novak okafor petrov silva"
)
BATCH = 2000


def users(count: int) -> list[str]:
    """Their names, the most eager first."""
    first, last = FIRST.split(), LAST.split()
    return [f"{first[n % 20]}.{last[(n + n // 20) * 7 % 17]}{n // 340 or ''}" for n in range(count)]


def week(count: int, of: int, days: float = 7) -> Iterator[Any]:
    """So many events of so many users, up to now; each user has one at least."""
    chance = random.Random(7)  # noqa: S311 no secret
    names = users(of)
    now = datetime.now(UTC)
    places, weights = list(PLACES), list(PLACES.values())
    for n in range(count):
        name = names[n] if n < of else names[min(int(chance.paretovariate(0.9)) - 1, of - 1)]
        while True:
            ago = chance.random() * days * 24
            moment = now - timedelta(hours=ago)
            busy = 0.35 + 0.65 * max(0.0, sin((moment.hour - 6) / 24 * 2 * pi))
            if chance.random() < busy * (0.45 if moment.weekday() > 4 else 1):
                break
        namespace, service, model = chance.choices(places, weights)[0]
        yield _one(chance, f"{namespace}/{service}/{service}-predictor-0", model, name, moment)


def _one(chance: random.Random, place: str, model: str, user: str, moment: datetime) -> Any:
    input_tokens = int(chance.lognormvariate(6.2, 1))
    output_tokens = 0 if "bge" in model else int(chance.lognormvariate(5.4, 0.8))
    data: dict[str, Any] = {"model": model, "gateway_model": model, "time": moment.isoformat()}
    kind = chance.random()
    if kind < 0.045:
        data |= {"outcome": "client_disconnect", "exact": False, "counted_by": "running_usage"}
    elif kind < 0.055:
        data |= {"exact": False, "counted_by": "tokenizer"}
    elif kind < 0.066:
        data |= {"outcome": "rejected", "status": 400}
        input_tokens = output_tokens = 0
    elif kind < 0.072:
        data |= {"outcome": "upstream_error", "status": 502}
        output_tokens //= 3
    data["cached_input_tokens"] = input_tokens // 2 if chance.random() < 0.3 else 0
    anonymous = chance.random() < 0.004
    return event(
        place=place,
        user=None if anonymous else user,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        **data,
    )


def fill(ledger: Ledger, events: Iterator[Any]) -> None:
    """Send them."""
    batch: list[Any] = []
    for one in events:
        batch.append(one)
        if len(batch) == BATCH:
            ledger.send(batch)
            batch = []
    if batch:
        ledger.send(batch)


PICTURES = {"light": "?from=7d&at_least=20000&refresh=off", "dark": "?group_by=user&refresh=off"}


async def _pictures(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        database = Path(name)
        with Ledger(f"sqlite:///{database}/l.db", database) as ledger:
            fill(ledger, week(40_000, 10_000))
            async with browsing() as page:
                await page.resize(1200, 1000)
                for scheme, query in PICTURES.items():
                    await page.scheme(scheme)
                    await page.go(f"http://127.0.0.1:{ledger.port}/{query}")
                    if scheme == "dark":
                        await page.run("document.getElementById('chart').focus({focusVisible: false})")
                        for key in ("End", *["ArrowLeft"] * 12):
                            await page.press(key)
                    await page.run("Promise.all(document.getAnimations().map(one => one.finished))")
                    (folder / f"ledger-{scheme}.png").write_bytes(await page.screenshot())


if __name__ == "__main__":
    asyncio.run(_pictures(Path(sys.argv[1])))
