"""The model's chat template: what becomes of messages before the model reads them. Not bounded in time."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


class ChatTemplate:
    """chat_template.jinja, else the one in tokenizer_config.json. Raises where it cannot be compiled."""

    def __init__(self, source: str, config: Mapping[str, Any]) -> None:
        self._template = _compile(source)
        self._tokens = {name: _token(config.get(name)) for name in ("bos_token", "eos_token")}

    def render(self, request: Mapping[str, Any]) -> str:
        """The prompt of a chat request, with the special tokens in it. Raises where the template does."""
        extra = request.get("chat_template_kwargs")
        variables: dict[str, Any] = {
            "messages": request.get("messages"),
            "tools": request.get("tools"),
            "add_generation_prompt": request.get("add_generation_prompt", True),
            **self._tokens,
        }
        return self._template.render(variables | (extra if isinstance(extra, dict) else {}))


def find(folder: Path, config: Mapping[str, Any]) -> ChatTemplate | None:
    """The template of a model's folder, None without one. The config's is a string, or named ones with a default."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return ChatTemplate(file.read_text(), config)
    given = config.get("chat_template")
    if isinstance(given, list):
        named = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)}
        given = named.get("default")
    return ChatTemplate(given, config) if isinstance(given, str) else None


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
