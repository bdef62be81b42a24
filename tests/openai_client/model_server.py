"""`python -m tests.openai_client.model_server MODEL NAME PORT`: the demo's model, which gives embeddings here too."""

import signal
import sys

from xllamacpp.xllamacpp import Server, llama_pooling_type

from demo.model_server import parameters


def main() -> None:
    """Serve until SIGTERM."""
    model, name, port = sys.argv[1:]
    params = parameters(model, name, int(port), threads=1)
    params.embedding = True
    params.pooling_type = llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = Server(params)
    print(f"serving {name} on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
