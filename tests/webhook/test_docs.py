"""The documents name every reason and every annotation."""

from pathlib import Path

from isvc.annotations import ANNOTATIONS
from webhook.reasons import Reason

DOCS = Path(__file__).parents[2] / "docs"


def test_every_reason_is_explained_in_its_own_words() -> None:
    text = (DOCS / "injection.md").read_text()
    for reason in Reason:
        sentence = reason.sentence.removesuffix("; not supported yet")
        assert f"| `{reason.label}` | {sentence}" in text


def test_every_annotation_is_explained() -> None:
    text = (DOCS / "annotations.md").read_text()
    for annotation in ANNOTATIONS.values():
        assert f"| `{annotation.key}` |" in text
