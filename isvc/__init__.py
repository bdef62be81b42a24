"""What an InferenceService says: its shape, mode, runtime, ports, served model names and our annotations.

Pure: raw objects in, values out, nothing of ours imported.
"""

from isvc import names, settings
from isvc._reading import read
from isvc.annotations import INJECTION_LABEL, Access, GatewayRef, Limit, Unit
from isvc.errors import InvalidAnnotation, Malformed, dotted
from isvc.llm import LLM_KIND, LLM_VERSIONS, LLMInferenceService, read_llm
from isvc.modes import Mode
from isvc.openai import NotOpenAI
from isvc.predictor import Container, Port, Shape
from isvc.runtimes import SHIPPED as SHIPPED_RUNTIMES
from isvc.servers import Server
from isvc.service import Canary, InferenceService, Sidecar
from isvc.settings import Settings, resolve

__all__ = [
    "INJECTION_LABEL",
    "LLM_KIND",
    "LLM_VERSIONS",
    "SHIPPED_RUNTIMES",
    "Access",
    "Canary",
    "Container",
    "GatewayRef",
    "InferenceService",
    "InvalidAnnotation",
    "LLMInferenceService",
    "Limit",
    "Malformed",
    "Mode",
    "NotOpenAI",
    "Port",
    "Server",
    "Settings",
    "Shape",
    "Sidecar",
    "Unit",
    "dotted",
    "names",
    "read",
    "read_llm",
    "resolve",
    "settings",
]
