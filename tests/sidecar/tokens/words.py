"""A model that knows words: `a`, `b`, and every other one as the same unknown token."""

import contextlib
import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers


def put(folder: Path, template: str | None = None) -> Path:
    """Its files in this folder, which is given back."""
    made = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return folder


def children() -> set[int]:
    """The tokenizer processes that this one has started and that are still there."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split() if _is_tokenizer(pid)}
    return found


def _is_tokenizer(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return b"sidecar.tokens" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False
