"""Every annotation of token-meter.dev: its name, what is allowed in it, and the value it stands for.

One function a form, each from text to value; a text that is not allowed raises `InvalidAnnotation`.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isvc.errors import InvalidAnnotation
from isvc.names import DOMAIN

INJECTION_LABEL = f"{DOMAIN}/injection"
"""The namespace's label: `enabled` or `annotated`."""


class Unit(StrEnum):
    """The window of a limit, as Envoy Gateway 1.9's RateLimitUnit names it; older ones end at the day."""

    SECOND = "Second"
    MINUTE = "Minute"
    HOUR = "Hour"
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"
    YEAR = "Year"


class Access(StrEnum):
    """Who may call metered paths: only the gateway, which knows the key, or anybody."""

    GATEWAY = "gateway"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many tokens for each user and model in each window."""

    requests: int
    unit: Unit

    def __str__(self) -> str:
        return f"{self.requests}/{self.unit.lower()}"


@dataclass(frozen=True, slots=True)
class GatewayRef:
    """A Gateway by namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _NotAllowedError(ValueError):
    pass


_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")  # RFC 9110 token; the length is Envoy Gateway's
_QUANTITY = re.compile(
    r"(?=.*[1-9])([0-9]+|[0-9]+\.[0-9]+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?"
)  # Kubernetes' common forms, not zero
_MAX_UINT32 = 2**32 - 1  # the rate limit service's requests_per_unit


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise _NotAllowedError
    return text == "true"


def _port(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text, re.ASCII) or int(text) > 65535:
        raise _NotAllowedError
    return int(text)


def _model(text: str) -> str:
    if not re.fullmatch(r"[!-+\--~]{1,253}", text):  # printable ASCII without space and comma
        raise _NotAllowedError
    return text


def _gateway(text: str) -> GatewayRef:
    if not re.fullmatch(rf"{_DNS_LABEL}/{_DNS_LABEL}(\.{_DNS_LABEL})*", text):
        raise _NotAllowedError
    return GatewayRef(*text.split("/"))


def _limit(text: str) -> Limit | None:
    if text == "off":
        return None
    match = re.fullmatch(r"(\d{1,10})/(second|minute|hour|day|week|month|year)", text, re.ASCII)
    if not match or not 1 <= int(match[1]) <= _MAX_UINT32:
        raise _NotAllowedError
    return Limit(int(match[1]), Unit(match[2].capitalize()))


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise _NotAllowedError
    return text.lower()


def _quantity(text: str) -> str:
    if not _QUANTITY.fullmatch(text):
        raise _NotAllowedError
    return text


def _revision(text: str) -> str:
    if not text:
        raise _NotAllowedError
    return text


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation: short name, parser, what is allowed in words, and who besides the ISVC may set it."""

    name: str
    parse: Callable[[str], Any]
    allowed: str
    namespace: bool = False
    cluster: bool = False

    @property
    def key(self) -> str:
        return f"{DOMAIN}/{self.name}"

    def value(self, text: str, where: str = "InferenceService") -> Any:
        """The value that `text` stands for; raises InvalidAnnotation."""
        try:
            return self.parse(text.strip())
        except ValueError:  # _NotAllowedError is one, and so is an enum's
            raise InvalidAnnotation(self.key, text, self.allowed, where) from None


ANNOTATIONS = {
    a.name: a
    for a in (
        Annotation("inject", _boolean, '"true" or "false"'),
        Annotation("model", _model, "one served model name, without spaces and commas"),
        Annotation("port", _port, "the model server's HTTP port, 1 to 65535"),
        Annotation("gateway", _gateway, "the Gateway as NAMESPACE/NAME", namespace=True, cluster=True),
        Annotation(
            "limit",
            _limit,
            "TOKENS/UNIT with UNIT one of second, minute, hour, day, week, month, year (1000/hour), or off",
            namespace=True,
            cluster=True,
        ),
        Annotation(
            "limit-by", _header, "the name of a request header (x-user-id)", namespace=True, cluster=True
        ),
        Annotation("access", Access, '"gateway" or "open"', namespace=True, cluster=True),
        Annotation("tls", _boolean, '"true" or "false"'),
        Annotation("sidecar-cpu", _quantity, "a CPU quantity above zero (100m, 1)", cluster=True),
        Annotation("sidecar-memory", _quantity, "a memory quantity above zero (128Mi, 1Gi)", cluster=True),
        Annotation("revision", _revision, "any text that is not empty"),
    )
}


def own(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations of our domain by their short names, known or not."""
    prefix = f"{DOMAIN}/"
    return {key.removeprefix(prefix): text for key, text in annotations.items() if key.startswith(prefix)}


def unknown(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each annotation of our domain that does not exist; a newer version may know it."""
    sentences = []
    for name in own(annotations):
        if name not in ANNOTATIONS:
            near = difflib.get_close_matches(name, ANNOTATIONS, n=1)
            hint = f"did you mean {DOMAIN}/{near[0]}?" if near else f"known are {', '.join(ANNOTATIONS)}"
            sentences.append(f"annotation {DOMAIN}/{name} is not known and is ignored; {hint}")
    return tuple(sentences)
