"""The servers that speak OpenAI: how each is recognised, where it listens, under which path it answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from isvc.flags import Flags, lora_names


class Server(StrEnum):
    """The kinds of server that the sidecar tells apart (its TOKEN_METER_SERVER)."""

    VLLM = "vllm"
    HUGGINGFACE = "huggingface"
    SGLANG = "sglang"
    TGI = "tgi"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"
    OVMS = "ovms"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class _Traits:
    """`port` is what the server listens on when nobody says otherwise; None where it has no HTTP then."""

    image: re.Pattern[str] | None
    command: re.Pattern[str] | None
    port: int | None
    port_flags: tuple[str, ...] = ("port",)
    port_env: str | None = None
    base_path: str | None = "/v1"


def _image(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(^|/)({pattern})$", re.IGNORECASE)


def _command(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(^|[\s/])({pattern})(\s|$)")


# What a server's own images are called after it; `vllm-router` and `vllm-exporter` are not servers.
_VARIANT = (
    r"([-_](openai|server|cpu|gpu|tpu|xpu|hpu|npu|rocm|cuda\d*|ascend|neuron|nightly|dev|omni|ubi\d*))*"
)

# The image is matched without registry, tag and digest; the command as its words joined by spaces.
_TRAITS = {
    Server.HUGGINGFACE: _Traits(
        image=_image(rf"huggingfaceserver{_VARIANT}"),
        command=_command(r"huggingfaceserver"),
        port=8080,
        port_flags=("http-port",),
        base_path=None,
    ),
    Server.VLLM: _Traits(
        image=_image(rf"vllm{_VARIANT}"),
        command=_command(r"vllm serve|vllm\.entrypoints\.openai\.api_server"),
        port=8000,
    ),
    Server.SGLANG: _Traits(
        image=_image(rf"sglang{_VARIANT}"),
        command=_command(r"sglang\.launch_server|sglang serve"),
        port=30000,
    ),
    Server.TGI: _Traits(
        image=_image(rf"text-generation-inference{_VARIANT}"),
        command=_command(r"text-generation-launcher"),
        port=80,
        port_flags=("port", "p"),
        port_env="PORT",
    ),
    Server.LLAMA_CPP: _Traits(
        image=_image(rf"llama[.-]cpp{_VARIANT}"),
        command=_command(r"llama-server|llama_cpp\.server"),
        port=8080,
        port_env="LLAMA_ARG_PORT",
    ),
    Server.OLLAMA: _Traits(
        image=_image(r"ollama"),
        command=_command(r"ollama serve"),
        port=11434,
        port_flags=(),
        port_env="OLLAMA_HOST",
    ),
    Server.OVMS: _Traits(
        image=_image(rf"openvino/model_server{_VARIANT}|ovms{_VARIANT}"),
        command=_command(r"ovms"),
        port=None,
        port_flags=("rest-port",),
        base_path="/v3",
    ),
    Server.GENERIC: _Traits(
        image=None, command=None, port=8080, port_flags=("port", "http-port"), base_path=None
    ),
}


def recognise(image: str, argv: Sequence[str]) -> Server | None:
    """The server that this image or command line runs; the command is the surer sign of the two."""
    line = " ".join(argv)
    repository = re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]+)?$", "", image)
    for sign, text in (("command", line), ("image", repository)):
        for server, traits in _TRAITS.items():
            pattern = getattr(traits, sign)
            if pattern and pattern.search(text):
                return server
    return None


NO_PORT = 0
"""Told, but not a TCP port that can be read from the manifest."""


def told_port(server: Server, flags: Flags, env: Mapping[str, str | None]) -> int | None:
    """The port that the command line or the environment gives the server; NO_PORT, or None where neither does."""
    traits = _TRAITS[server]
    if "uds" in flags:
        return NO_PORT
    text = flags.first(*traits.port_flags)
    if text is None and traits.port_env and traits.port_env in env:
        text = env[traits.port_env]
        if text and ":" not in text and not text.isdigit():
            return None  # OLLAMA_HOST may be a host alone
    elif text is None:
        return None
    digits = (text or "").rsplit(":", 1)[-1]
    return int(digits) if digits.isascii() and digits.isdigit() and int(digits) < 65536 else NO_PORT


def names_port(server: Server, flags: Flags) -> bool:
    """Whether the command line names the port, so that no environment variable changes it."""
    return flags.first(*_TRAITS[server].port_flags) is not None


def moving_flag(server: Server, port: int) -> str | None:
    """The argument that moves a server to `port` whatever its command line said before, None where none does.

    These are argparse's, which takes the last of a repeated flag; TGI refuses one, and of the rest it is not known.
    """
    match server:
        case Server.HUGGINGFACE:
            return f"--http_port={port}"
        case Server.VLLM | Server.SGLANG:
            return f"--port={port}"
        case _:
            return None


def reads_port_variable(server: Server) -> bool:
    """Whether the server listens on PORT, which Knative sets to the pod's one port; unknown servers may."""
    return server is Server.GENERIC or _TRAITS[server].port_env == "PORT"


def default_port(server: Server) -> int | None:
    """The port that the server listens on unless it is told another one; None where that would be none."""
    return _TRAITS[server].port


def base_path(server: Server, flags: Flags, prefix: str | None) -> str | None:
    """What stands before `/chat/completions`, or None where it cannot be known.

    `prefix` is the KSERVE_OPENAI_ROUTE_PREFIX that KServe's server will see; vLLM and the rest ignore it.
    """
    match server:
        case Server.HUGGINGFACE if prefix is not None:
            trimmed = prefix.strip("/")
            return f"/{trimmed}/v1" if trimmed else "/v1"
        case Server.LLAMA_CPP:
            trimmed = (flags.first("api-prefix") or "").strip("/")
            return f"/{trimmed}/v1" if trimmed else "/v1"
        case _:
            return _TRAITS[server].base_path


def served_models(server: Server, flags: Flags, name: str, custom: bool) -> tuple[str, ...]:
    """The names that the server answers to, LoRA adapters last.

    Without a flag: the InferenceService's name, which KServe's runtimes pass on; but a custom container's
    vLLM, SGLang or OVMS knows nothing of that name and goes by the model it was told to load.
    """
    # KServe's server takes --served-model-name over --model_name (huggingfaceserver __main__.py).
    names = flags.all("served-model-name") or flags.all("model-name")[:1]
    if not names and server is Server.LLAMA_CPP:
        names = tuple(alias for value in flags.all("alias", "a") for alias in value.split(",") if alias)
    if not names and custom:
        names = _loaded_model(server, flags)
    adapters = _adapters(flags)
    return tuple(dict.fromkeys([*(names or (name,)), *adapters]))


def _adapters(flags: Flags) -> tuple[str, ...]:
    """The adapters' names: vLLM's --lora-modules, SGLang's --lora-paths."""
    return lora_names(flags.all("lora-modules", "lora-paths"))


def _loaded_model(server: Server, flags: Flags) -> tuple[str, ...]:
    match server:
        case Server.VLLM:
            words = flags.words
            words = words[words.index("serve") + 1 :] if "serve" in words else words
            positional = [word for word in words if "vllm" not in word and word not in ("python", "python3")]
            return flags.all("model", "model-tag")[:1] or tuple(positional[:1])
        case Server.SGLANG:
            return flags.all("model-path", "model")[:1]
        case Server.OVMS:
            return flags.all("source-model")[:1]
        case _:
            return ()
