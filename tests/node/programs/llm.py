"""The demo's model server as KServe's runtime starts it: `--model_name` is its own, other flags are vLLM's."""

import argparse
import signal

from xllamacpp.xllamacpp import Server

from demo import model_server


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model_name", required=True)
    name = parser.parse_known_args()[0].model_name
    params = model_server.parameters("/opt/llm/model.gguf", name, 8080, threads=1)
    params.hostnames = ["0.0.0.0"]
    server = Server(params)
    print(f"serving {name} on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
