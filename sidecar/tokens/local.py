"""What there is to count with in this pod: the model's own files, else tiktoken's for models that share them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.tokens import template, vocabulary
from sidecar.tokens.vocabulary import Vocabulary

RANKS_DIR = Path(__file__).parent / "ranks"
"""tiktoken's files, which the image's build puts here."""
MODEL_FILES, TIKTOKEN = "tokenizer", "tiktoken"
_FAMILIES = (
    (re.compile(r"gpt-oss|phi-?4-(mini|multimodal)", re.IGNORECASE), "o200k_base.tiktoken.gz"),
    (re.compile(r"phi-?4|phi-3-small|dbrx|olmo-?2", re.IGNORECASE), "cl100k_base.tiktoken.gz"),
)
"""Open models whose vocabulary is OpenAI's, by a part of their name."""
_Reader = Callable[[Path, Mapping[str, Any]], Vocabulary]
_FILES: tuple[tuple[str, _Reader, int], ...] = (
    ("tokenizer.json", vocabulary.of_json, 12),
    ("tekken.json", vocabulary.of_tekken, 8),
    ("tokenizer.model", vocabulary.of_model, 45),
)
"""With how many times its file each takes while it is loaded (docs/sidecar.md has the measured figures)."""
_RANKS_FACTOR = 55  # of the compressed file
_MAX_FILE = 64 * 1024 * 1024
_CGROUP = Path("/sys/fs/cgroup")


def there_is(folder: Path, models: Sequence[str], ranks: Path = RANKS_DIR) -> bool:
    """Whether there is anything to load."""
    files = [folder / name for name, _, _ in _FILES]
    family = _family(models, ranks)
    return any(file.is_file() for file in [*files, *([family] if family else [])])


class LocalTokenizer:
    """Loaded once; raises where there is nothing, or nothing that fits into memory. `by` says which it is."""

    def __init__(
        self, folder: Path, models: Sequence[str], ranks: Path = RANKS_DIR, cgroup: Path = _CGROUP
    ) -> None:
        config = _read_config(folder / "tokenizer_config.json")
        self.by = MODEL_FILES
        for name, read, factor in _FILES:
            if (folder / name).is_file():
                _fits(folder / name, factor, cgroup)
                self._vocabulary = read(folder / name, config)
                break
        else:
            family = _family(models, ranks)
            if family is None:
                raise FileNotFoundError(f"{folder} has no tokenizer")
            self.by = TIKTOKEN
            _fits(family, _RANKS_FACTOR, cgroup)
            self._vocabulary = vocabulary.of_tiktoken(family)
        self._template = template.find(folder, config)

    def texts(self, texts: Sequence[str], *, special: bool) -> int:
        """Tokens of the texts, with what the model puts before each where `special`."""
        return sum(self._vocabulary.count(text, special=special) for text in texts)

    def chat(self, request: Mapping[str, Any]) -> int | None:
        """Tokens of a chat request's prompt; None where the files have no template."""
        if self._template is None:
            return None
        # The template writes the special tokens itself.
        return self.texts([self._template.render(request)], special=False)


def _family(models: Sequence[str], ranks: Path) -> Path | None:
    for pattern, name in _FAMILIES:
        if any(pattern.search(model) for model in models):
            return ranks / name
    return None


def _fits(file: Path, factor: int, cgroup: Path) -> None:
    size, room = file.stat().st_size, _room(cgroup)
    if size > _MAX_FILE or (room is not None and size * factor > room):
        raise MemoryError(f"{file.name} of {size} bytes does not fit into the memory limit")


def _room(cgroup: Path) -> int | None:
    """Bytes that the container's memory limit leaves; None without a limit."""
    try:
        return int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return None


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_bytes()) if file.stat().st_size < _MAX_FILE else {}
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
