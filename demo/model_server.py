"""`python -m demo.model_server`: llama.cpp with a small Gemma, as the model server of the demo's pod.

It speaks OpenAI's API at /v1, and counts every token itself (GET /metrics).
"""

import argparse
import signal
import sys

from xllamacpp.xllamacpp import CommonParams, Server

# The model is Gemma's base model, which knows no chat turns: it goes on with a text, so it gets one to go on with.
CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}\
{{ 'A' if message['role'] == 'assistant' else 'Q' }}: {{ message['content'] | trim }}

{% endfor %}{% if add_generation_prompt %}A:{% endif %}"""

SLOTS = 4
CONTEXT = 8192
"""Tokens in each slot; the demo's 200 KB prompt has to fit in one."""


def parameters(model: str, name: str, port: int, threads: int) -> CommonParams:
    """llama.cpp's parameters: one served name, counters on, loopback only."""
    params = CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    params.n_threads_http = 8
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    # Threads that spin while they wait would take the processor from the programs beside them.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.chat_template = CHAT_TEMPLATE
    params.endpoint_metrics = True
    params.verbosity = 0
    return params


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo.model_server", description="Serve a GGUF model by llama.cpp."
    )
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--name", required=True, help="the served name")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    server = Server(parameters(args.model, args.name, args.port, args.threads))
    print(f"serving {args.name} on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
