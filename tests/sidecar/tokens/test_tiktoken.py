"""tiktoken's vocabularies are OpenAI's own, count as its library does, and nothing is fetched to count."""

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from tiktoken_ext import openai_public

import parts
from sidecar.tokens.local import LocalTokenizer
from sidecar.tokens.vocabulary import of_tiktoken
from tests.sidecar.tokens.texts import TEXTS
from tests.sidecar.tokens.vocabularies import MODELS, Model, ranks

RANKS = parts.path("tiktoken").parent


@pytest.mark.parametrize("make", [openai_public.cl100k_base, openai_public.o200k_base])
def test_the_shipped_files_are_openais_and_count_as_its_library_does(
    make: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RANKS / f"{make.__name__}.tiktoken.gz"
    content = gzip.decompress(file.read_bytes())

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        assert hashlib.sha256(content).hexdigest() == expected_hash
        return ranks(content)

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", load)
    theirs, ours = tiktoken.Encoding(**make()), of_tiktoken(file)
    for text in TEXTS.values():
        assert ours.count(text, special=False) == len(theirs.encode_ordinary(text))
    assert ours.count("a<|endoftext|>b", special=False) == 3


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("openai/gpt-oss-120b", "o200k_base"),
        ("Phi-4-mini-instruct", "o200k_base"),
        ("microsoft/phi-4", "cl100k_base"),
        ("dbrx-instruct", "cl100k_base"),
        ("allenai/OLMo-2-1124-7B", "cl100k_base"),
    ],
)
def test_an_open_model_with_openais_vocabulary_is_known_by_its_name(
    name: str, file: str, tmp_path: Path
) -> None:
    found = LocalTokenizer(tmp_path, ["adapter", name], RANKS)
    expected = of_tiktoken(RANKS / f"{file}.tiktoken.gz")
    assert found.by == "tiktoken"
    assert found.texts([TEXTS["Russian"]], special=True) == expected.count(TEXTS["Russian"], special=True)


@pytest.mark.parametrize("name", ["llama3-1b", "gpt-4", "gpt-3.5-turbo", ""])
def test_any_other_name_is_not_counted_by_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalTokenizer(tmp_path, [name], RANKS)


_WITHOUT_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
from pathlib import Path
from sidecar.tokens.local import LocalTokenizer
local = LocalTokenizer(Path(sys.argv[1]), [sys.argv[2]], Path(sys.argv[3]))
assert local.texts(["a b c"], special=True) > 0
assert "requests" not in sys.modules and "huggingface_hub" not in sys.modules
"""


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_counting_opens_no_socket(make: Callable[[Path], Model], tmp_path: Path) -> None:
    model = make(tmp_path)
    command = [sys.executable, "-c", _WITHOUT_NETWORK, str(tmp_path), model.name, str(RANKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
