"""The model's own files: tokenizer.json, and the chat template beside it. Blocking; for a worker thread.

The libraries are imported at first need: a sidecar whose server gives usage never pays for them.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer

_MAX_FILE = 64 * 1024 * 1024
# A loaded tokenizer takes up to this many times its file (docs/sidecar.md has the measured figures).
_MEMORY_FACTOR = 12
_CGROUP = Path("/sys/fs/cgroup")


class LocalTokenizer:
    """The files of one folder, loaded once; every method raises where they are missing or cannot be used."""

    def __init__(self, folder: Path, cgroup: Path = _CGROUP) -> None:
        self._tokenizer = _load(folder / "tokenizer.json", cgroup)
        self._config = _read_config(folder / "tokenizer_config.json")
        source = _template_source(folder, self._config)
        self._template = _compile(source) if source else None

    def texts(self, texts: Sequence[str], *, special: bool) -> int:
        """Tokens of the texts, with what the model puts before each where `special`."""
        return sum(len(self._tokenizer.encode(text, add_special_tokens=special).ids) for text in texts)

    def chat(self, request: dict[str, Any]) -> int | None:
        """Tokens of a chat request's prompt; None where the files have no template."""
        if self._template is None:
            return None
        extra = request.get("chat_template_kwargs")
        variables: dict[str, Any] = {
            "messages": request.get("messages"),
            "tools": request.get("tools"),
            "add_generation_prompt": request.get("add_generation_prompt", True),
            "bos_token": _token(self._config.get("bos_token")),
            "eos_token": _token(self._config.get("eos_token")),
        }
        text = self._template.render(variables | (extra if isinstance(extra, dict) else {}))
        # The template writes the special tokens itself.
        return self.texts([text], special=False)


def _load(file: Path, cgroup: Path) -> "Tokenizer":
    size = file.stat().st_size
    room = _room(cgroup)
    if size > _MAX_FILE or (room is not None and size * _MEMORY_FACTOR > room):
        raise MemoryError(f"tokenizer.json of {size} bytes does not fit into the memory limit")
    from tokenizers import Tokenizer  # noqa: PLC0415

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


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


def _template_source(folder: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja, else the config's: a string, or a list of named ones with a default."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    given = config.get("chat_template")
    if isinstance(given, list):
        named = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)}
        given = named.get("default")
    return given if isinstance(given, str) else None


def _compile(source: str) -> "Template":
    """As transformers compiles it (utils/chat_template_utils.py): sandboxed, with the same names."""
    from jinja2.ext import loopcontrols  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    # A chat template makes a prompt for a model, no page: nothing is to be escaped.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005 as the server's
    return environment.from_string(source)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _token(value: Any) -> str:
    """A special token of tokenizer_config.json: a string, or an object with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""
