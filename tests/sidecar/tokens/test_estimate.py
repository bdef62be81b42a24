"""Where there is nothing to count with, the estimate is near what six present vocabularies say."""

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parts
from sidecar.tokens.estimate import estimate
from sidecar.tokens.vocabulary import Vocabulary, of_json, of_model, of_tekken, of_tiktoken
from tests.sidecar.tokens.texts import TEXTS
from tests.sidecar.tokens.vocabularies import gemma

ROOT = Path(__file__).parents[3]
OWN = {
    name: (ROOT / name).read_text() for name in ("README.md", "sidecar/proxy.py", "Dockerfile", "Makefile")
}
"""Texts that the weights were not made with."""


@pytest.fixture(scope="module")
def present(tmp_path_factory: pytest.TempPathFactory) -> list[Vocabulary]:
    """Gemma 3, DeepSeek, Llama 3 and 4, Mistral NeMo, gpt-oss."""
    folder = parts.path("vocabularies").parent
    return [
        of_json(gemma(tmp_path_factory.mktemp("gemma")).folder / "tokenizer.json", {}),
        of_json(folder / "deepseek.json", {}),
        of_model(folder / "llama3.model", {}),
        of_model(folder / "llama4.model", {}),
        of_tekken(folder / "tekken.json", {}),
        of_tiktoken(parts.path("tiktoken").parent / "o200k_base.tiktoken.gz"),
    ]


@pytest.mark.parametrize("name", [*TEXTS, *OWN])
def test_an_estimate_is_within_a_fifth_of_their_median_and_half_of_each(
    name: str, present: list[Vocabulary]
) -> None:
    text = (TEXTS | OWN)[name]
    counts = [vocabulary.count(text, special=False) for vocabulary in present]
    estimated = estimate([text])
    assert 0.8 < estimated / statistics.median(counts) < 1.2, counts
    assert all(0.5 <= estimated / count <= 1.5 for count in counts), (estimated, counts)


@given(st.text(st.characters(exclude_categories=())))
def test_an_estimate_is_at_least_one_and_at_most_the_bytes(text: str) -> None:
    assert bool(text) <= estimate([text]) <= len(text.encode("utf-8", "replace"))


@given(st.lists(st.text()))
def test_texts_are_estimated_each_for_itself(texts: list[str]) -> None:
    assert estimate(texts) == sum(estimate([text]) for text in texts)


def test_a_long_text_is_estimated_by_its_beginning() -> None:
    text = TEXTS["English"] * 100
    assert estimate([text * 10]) == pytest.approx(10 * estimate([text]), rel=0.02)
