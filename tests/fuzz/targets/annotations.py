"""Annotations: a value that the sidecar and the gateway can be written with, or InvalidAnnotation."""

import re

import orjson

from isvc import InvalidAnnotation
from isvc.annotations import ANNOTATIONS, unknown
from isvc.settings import Settings, resolve

JSON = True
WORDS = (
    *(annotation.key for annotation in ANNOTATIONS.values()),
    *ANNOTATIONS,
    "true",
    "off",
    "1000/hour",
    "ns/name",
    "open",
    "100m",
    "0.5",
    "1Gi",
    "x-user-id",
    "٣",
)


def check(data: bytes) -> None:
    """Judge one object's annotations, as those of all three places."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    if not isinstance(value, dict):
        return
    given = {name: text for name, text in value.items() if isinstance(text, str)}
    assert all(isinstance(sentence, str) for sentence in unknown(given))
    nothing: dict[str, str] = {}
    for places in ((given, nothing, nothing), (nothing, given, nothing), (nothing, nothing, given)):
        try:
            found = resolve(*places)
        except InvalidAnnotation as error:
            assert error.allowed in str(error)
        else:
            _can_be_written(found)


def _can_be_written(found: Settings) -> None:
    texts = (found.model, found.limit_by, found.sidecar_cpu, found.sidecar_memory, str(found.gateway))
    for text in texts:
        assert text is None or re.fullmatch(r"[!-~]+", text), text
    assert re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+", found.limit_by)
    assert found.limit is None or 1 <= found.limit.requests < 2**32
    assert found.port is None or 1 <= found.port <= 65535
