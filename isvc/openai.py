"""Whether an InferenceService speaks OpenAI's API, and if not, why."""

import re
from enum import StrEnum

from isvc.flags import Flags
from isvc.modes import Mode
from isvc.predictor import PREDICTIVE, Container, Shape
from isvc.servers import Server

# KServe's huggingfaceserver task.py and vLLM's --task; the ones that have no OpenAI endpoint.
_OTHER_TASKS = {
    "sequence_classification",
    "token_classification",
    "fill_mask",
    "time_series_forecast",
    "classify",
    "reward",
}
# OVMS serves OpenAI only for the tasks of its `--task`.
_OVMS_TASKS = {
    "text_generation",
    "embeddings",
    "rerank",
    "speech2text",
    "text2speech",
    "image_generation",
}
_OTHER_VLLM = re.compile(r"vllm\.entrypoints\.(api_server|grpc_server)(\s|$)")


class NotOpenAI(StrEnum):
    """Why an InferenceService does not speak OpenAI, as far as its manifest tells."""

    MODEL_MESH = "ModelMesh"
    GRPC_ONLY = "gRPCOnly"
    NO_PREDICTOR = "NoPredictor"
    PREDICTIVE_FORMAT = "PredictiveFormat"
    NOT_GENERATIVE = "NotGenerative"
    UNKNOWN_FORMAT = "UnknownFormat"
    UNKNOWN_SERVER = "UnknownServer"


def verdict(
    mode: Mode,
    *,
    shape: Shape,
    model_format: str,
    server: Server | None,
    container: Container,
    flags: Flags,
    asserted: bool,
) -> NotOpenAI | None:
    """None where it speaks OpenAI. `asserted` is `inject: "true"`: the owner knows what an image hides."""
    if mode is Mode.MODEL_MESH:
        return NotOpenAI.MODEL_MESH
    if shape is Shape.NONE:
        return NotOpenAI.NO_PREDICTOR
    http = container.ports or container.runtime_ports
    if http and not container.taken and all(port.grpc for port in http):
        return NotOpenAI.GRPC_ONLY
    if asserted:
        return None
    if model_format in PREDICTIVE:
        return NotOpenAI.PREDICTIVE_FORMAT
    if flags.first("task") in _OTHER_TASKS or _OTHER_VLLM.search(" ".join(container.argv)):
        return NotOpenAI.NOT_GENERATIVE
    if server is Server.OVMS and flags.first("task") not in _OVMS_TASKS:
        return NotOpenAI.PREDICTIVE_FORMAT
    if server is None:
        return NotOpenAI.UNKNOWN_SERVER if shape is Shape.CUSTOM else NotOpenAI.UNKNOWN_FORMAT
    return None
