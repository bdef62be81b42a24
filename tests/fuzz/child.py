"""One target under libFuzzer, which ends the process: `python -m tests.fuzz.child NAME [libFuzzer's own]`."""

import sys

import atheris

from tests.fuzz.json_mutator import mutate
from tests.fuzz.targets import load

_OURS = ["sidecar", "ledger", "isvc", "webhook"]


def main() -> None:
    """Fuzz until libFuzzer has had enough, or `check` raises."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=_OURS):
        target = load(name)
    more = {}
    if target.json:

        def change(data: bytes, most: int, seed: int) -> bytes:
            # Atheris puts the mutation that works in this place when it begins.
            return mutate(data, most, seed, words=target.words, blindly=atheris.Mutate)

        more["custom_mutator"] = change
    atheris.Setup(sys.argv, target.check, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
