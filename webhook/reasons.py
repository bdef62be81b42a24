"""Why an InferenceService is left as it is: a closed set, each reason with the sentence that people read."""

from enum import Enum

from isvc import NotOpenAI


class Reason(Enum):
    """A reason: its name for logs, metrics and Events (CamelCase, as Kubernetes' own) and its sentence."""

    NAMESPACE_NOT_LABELLED = (
        "NamespaceNotLabelled",
        "its namespace has no label token-meter.dev/injection: enabled (or annotated)",
    )
    NOT_ANNOTATED = (
        "NotAnnotated",
        'its namespace injects annotated InferenceServices only; annotate it token-meter.dev/inject: "true"',
    )
    OPTED_OUT = ("OptedOut", 'it opts out by its annotation token-meter.dev/inject: "false"')
    NO_NAME = ("NoName", "it has no metadata.name, which the gateway's objects are named after")

    MODEL_MESH = ("ModelMesh", "ModelMesh deploys no pod of its own for it that a sidecar could stand in")
    NO_PREDICTOR = ("NoPredictor", "its predictor names neither a model nor a container")
    GRPC_ONLY = ("GRPCOnly", "its only port is gRPC by name, and OpenAI's API is HTTP")
    PREDICTIVE_FORMAT = ("PredictiveFormat", "its model format is predictive and serves no OpenAI API")
    NOT_GENERATIVE = ("NotGenerative", "its server is started for a task that has no OpenAI API")
    UNKNOWN_FORMAT = (
        "UnknownFormat",
        'its model format is not known to serve OpenAI; token-meter.dev/inject: "true" says that it does',
    )
    UNKNOWN_SERVER = (
        "UnknownServer",
        "neither image nor command of its container is a known OpenAI server's;"
        ' token-meter.dev/inject: "true" says that it is one',
    )

    RUNTIME_UNKNOWN = (
        "RuntimeUnknown",
        "it names a ServingRuntime that is not known here, and so its container's ports are not either",
    )
    NO_HTTP_PORT = ("NoHTTPPort", "its server's HTTP port is not known; token-meter.dev/port names it")
    PORT_FROM_ENVIRONMENT = (
        "PortFromEnvironment",
        "Knative sets PORT to the sidecar's port, and its server may listen there;"
        " name the server's port on its command line (--port) or by token-meter.dev/port",
    )
    SERVER_API_KEY = (
        "ServerAPIKey",
        "its server asks for an API key, which the gateway's takes the place of;"
        " take it away, or set token-meter.dev/access: open",
    )
    PORT_TAKEN = ("PortTaken", "it uses a port that the sidecar needs")
    NAME_TAKEN = (
        "NameTaken",
        "it has a container called token-meter or a volume called token-meter-key that is not ours",
    )
    OTHER_MODE = (
        "OtherMode",
        "it carries a sidecar made for another deployment mode or another runtime's ports;"
        ' opt out by token-meter.dev/inject: "false" and in again to have it made anew',
    )

    HOST_NETWORK = (
        "HostNetwork",
        "its pods share the node's network, where the sidecar's ports are not its own",
    )
    RUNTIME_DECLARES_PORTS = (
        "RuntimeDeclaresPorts",
        "its ServingRuntime declares ports, beside which the sidecar's cannot be served, and its server cannot be"
        " moved by a flag; take the ports out of the ServingRuntime",
    )
    SEVERAL_PORTS = (
        "SeveralPorts",
        "its pod declares several ports, and the first, where KServe sends the traffic, is not the server's,"
        " or it is Knative's, which allows one",
    )
    SEVERAL_CONTAINERS = (
        "SeveralContainers",
        "its predictor has several containers and the first is not called kserve-container:"
        " KServe makes no pod of it",
    )
    COLLOCATED_TRANSFORMER = (
        "CollocatedTransformer",
        "its traffic enters by its transformer-container, whose answers need not be OpenAI's;"
        " a transformer of its own (spec.transformer) leaves the model to the sidecar",
    )
    TRANSFORMER = (
        "Transformer",
        "its transformer calls the model without the gateway's key; take token-meter.dev/access: gateway away",
    )
    INFERENCE_GRAPH = (
        "InferenceGraph",
        "it is a step of an InferenceGraph, whose router has no key of the gateway's;"
        " set token-meter.dev/access: open",
    )
    MULTI_NODE = ("MultiNode", "several nodes (workerSpec) are served in Standard mode only")
    CANARY = ("Canary", "a canary of it (spec.canary) cannot be served like the stable predictor")
    SERVER_TLS = ("ServerTLS", "its server speaks TLS, behind which tokens cannot be read; not supported yet")
    TLS = (
        "TLS",
        'token-meter.dev/tls: "true" asks for TLS to the sidecar, but somebody in the cluster calls it in the clear',
    )

    def __init__(self, label: str, sentence: str) -> None:
        self.label = label
        self.sentence = sentence


def not_openai(why: NotOpenAI) -> Reason:
    """The reason for what does not speak OpenAI; the two sets have the same names."""
    return Reason[why.name]
