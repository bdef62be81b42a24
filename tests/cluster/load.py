"""Creates at a steady rate, and what came of them."""

import threading
from collections.abc import Callable

from tests.cluster.client import Answer

INTERVAL = 0.02
"""Seconds between two creates, where the machine is fast enough."""


class Load:
    """Creates InferenceServices, as dry runs, until the block ends.

    `refused` are the answers other than 201, `bare` those without a sidecar.
    """

    def __init__(self, create: Callable[[], Answer]) -> None:
        self._create = create
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]
        self.count = 0
        self.refused: list[Answer] = []
        self.bare: list[Answer] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._end.wait(INTERVAL * len(self._threads)):
            answer = self._create()
            self.count += 1
            if answer.status != 201:
                self.refused.append(answer)
            elif "initContainers" not in answer.body["spec"]["predictor"]:
                self.bare.append(answer)
