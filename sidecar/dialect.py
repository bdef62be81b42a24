"""What each kind of model server is asked, so that a stream's tokens are known to the last one. Pure.

vLLM, KServe's huggingface server and SGLang put usage on every chunk (`continuous_usage_stats`), each choice its
own; llama.cpp puts `timings` there (`timings_per_token`). Of the others only the final usage can be had.
"""

from typing import Any

from sidecar.request_body import Ask, RequestBody
from sidecar.settings import ServerKind
from sidecar.shape import Shape

_VLLM = frozenset({ServerKind.VLLM, ServerKind.HUGGINGFACE})
_BEST = {
    ServerKind.VLLM: Ask.EVERY_STEP,
    ServerKind.HUGGINGFACE: Ask.EVERY_STEP,
    ServerKind.SGLANG: Ask.RUNNING_USAGE,
    ServerKind.LLAMA_CPP: Ask.RUNNING_USAGE,
}
# What the sidecar may set; a server's refusal names what it does not take.
ASKED = (b"stream_options", b"timings_per_token", b"return_token_ids", b"stream_interval")


def best_ask(server: ServerKind) -> Ask:
    """The most that this kind of server can be asked for."""
    return _BEST.get(server, Ask.FINAL_USAGE)


def wanted(server: ServerKind, body: RequestBody, ask: Ask) -> dict[str, Any]:
    """The members of the request's body that have to be so, for this much usage."""
    if not body.takes_options or ask is Ask.NOTHING:
        return {}
    options = dict(body.stream_options or {})
    options["include_usage"] = True
    members: dict[str, Any] = {"stream_options": options}
    if ask < Ask.RUNNING_USAGE:
        return members
    if server is ServerKind.LLAMA_CPP:
        members["timings_per_token"] = True
        return members
    options["continuous_usage_stats"] = True
    if body.given.get("stream_interval") not in (None, 1):
        # vLLM 0.33: a chunk each so many tokens, so that an abort would hide as many.
        members["stream_interval"] = 1
    if ask is Ask.EVERY_STEP and server in _VLLM and body.may_fall_silent:
        # Where a parser holds tokens back, vLLM sends no chunk, unless their ids are asked for.
        members["return_token_ids"] = True
    return members


def adds_running_usage(server: ServerKind, ask: Ask) -> bool:
    """Whether the chunks have usage because of what was asked."""
    return ask >= Ask.RUNNING_USAGE and server is not ServerKind.LLAMA_CPP


def shape_of(server: ServerKind, body: RequestBody, ask: Ask, *, through_gateway: bool) -> Shape:
    """How the server writes the stream that it was asked for. The gateway takes the last usage that it sees for the
    whole, so what it sees of several choices has to be their sum."""
    llama = server is ServerKind.LLAMA_CPP
    return Shape(
        per_prompt=None if body.chat else body.choices,
        several=(through_gateway or llama) and (body.choices > 1 or not body.chat),
        usage_per_choice=llama,
        strip_timings=llama and ask >= Ask.RUNNING_USAGE and not body.given.get("timings_per_token"),
        strip_token_ids=ask is Ask.EVERY_STEP and not body.given.get("return_token_ids"),
    )
