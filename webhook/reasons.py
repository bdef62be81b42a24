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
    NAME_TAKEN = ("NameTaken", "it has a container called token-meter that is not ours")
    OTHER_MODE = (
        "OtherMode",
        "it carries a sidecar made for the other deployment mode; remove that container to have it made anew",
    )

    RUNTIME_DECLARES_PORTS = (
        "RuntimeDeclaresPorts",
        "its ServingRuntime declares ports, beside which the sidecar's cannot be served; not supported yet",
    )
    SEVERAL_PORTS = ("SeveralPorts", "its container declares several ports; not supported yet")
    SEVERAL_CONTAINERS = ("SeveralContainers", "its predictor has several containers; not supported yet")
    COLLOCATED_TRANSFORMER = (
        "CollocatedTransformer",
        "its predictor has a transformer-container, which KServe's Service goes to; not supported yet",
    )
    TRANSFORMER = ("Transformer", "its traffic enters by its transformer; not supported yet")
    MULTI_NODE = ("MultiNode", "it is served by several nodes (workerSpec); not supported yet")
    CANARY = ("Canary", "it has canaries (spec.canary); not supported yet")
    SERVER_TLS = ("ServerTLS", "its server speaks TLS, behind which tokens cannot be read; not supported yet")
    TLS = ("TLS", 'token-meter.dev/tls: "true" asks for TLS to the sidecar; not supported yet')

    def __init__(self, label: str, sentence: str) -> None:
        self.label = label
        self.sentence = sentence


def not_openai(why: NotOpenAI) -> Reason:
    """The reason for what does not speak OpenAI; the two sets have the same names."""
    return Reason[why.name]
