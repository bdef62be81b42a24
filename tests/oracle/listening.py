"""Where a model server listens, by its own documented flags and defaults."""

import re

from tests.oracle.made import Object

_SERVERS = {
    "huggingfaceserver": ("http_port", 8080),
    "model_server": ("rest_port", None),
    "vllm": ("port", 8000),
}


def port(container: Object) -> int | None:
    """The port of a known server's container: the last of its port flags, else its default."""
    for image, (flag, default) in _SERVERS.items():
        if image in container["image"]:
            told = [re.fullmatch(rf"--{flag}=(\d+)", arg) for arg in container.get("args") or []]
            ports = [int(match[1]) for match in told if match]
            return ports[-1] if ports else default
    raise LookupError(container["image"])
