"""What vLLM writes (0.24, which KServe pins): the frames of its streams and its whole answers. Pure.

Running usage is that of one choice and repeats its prompt; the last chunk has the sum. Tokens that a parser holds back
make no frame, unless their ids are asked for. From the fact sheet: chat_completion/serving.py, completion/serving.py,
anthropic/serving.py, responses/serving.py.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.proof.scenario import Json, Part, Request
from tests.proof.tokens import of_prompts, word

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def event(value: object, name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Writer:
    """Writes one request's answer, a token at a time; `body` is what the sidecar has made of the client's."""

    def __init__(self, request: Request, body: Json) -> None:
        self.request = request
        self.body = body
        self.prompts = of_prompts(request.path, body)
        self.made = [0] * len(request.choices)
        options = body.get("stream_options") or {}
        self._usage = bool(options.get("include_usage"))
        self._running = self._usage and bool(options.get("continuous_usage_stats"))
        self._ids = bool(body.get("return_token_ids"))
        self._interval = body.get("stream_interval") or 1
        self._waiting: dict[int, int] = {}

    @property
    def input(self) -> int:
        """Tokens of the prompts that have been read: those whose first token is made."""
        n = max(len(self.made) // len(self.prompts), 1)
        return sum(p for i, p in enumerate(self.prompts) if any(self.made[i * n : (i + 1) * n]))

    @property
    def output(self) -> int:
        """Tokens that have been made."""
        return sum(self.made)

    # -- streams

    def begin(self) -> bytes:
        """What comes before the first token's own frame."""
        path = self.request.path
        if path == CHAT:
            return b"".join(
                self._chunk(index, {"role": "assistant", "content": ""}, ids=[])
                for index in range(len(self.made))
            )
        if path == "/v1/messages":
            usage = {"input_tokens": sum(self.prompts), "output_tokens": 0}
            return event({"type": "message_start", "message": {"id": "m", "usage": usage}}, "message_start")
        if path == "/v1/responses":
            return event({"type": "response.created", "response": {"usage": None}}, "response.created")
        return b""

    def token(self, index: int) -> bytes:
        """The choice makes its next token: the frame that tells of it, if one does."""
        number = self.made[index]
        self.made[index] += 1
        part = self.request.choices[index][number]
        text = f"{word(number + 1)} "
        path = self.request.path
        if path == "/v1/messages":
            kind = "thinking" if part is Part.REASONING else "text"
            delta = {"type": f"{kind}_delta", kind: text}
            return event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
        if path == "/v1/responses":
            kind = "reasoning_text" if part is Part.REASONING else "output_text"
            return event({"type": f"response.{kind}.delta", "delta": text}, f"response.{kind}.delta")
        waiting = self._waiting[index] = self._waiting.get(index, 0) + 1
        last = self.made[index] == len(self.request.choices[index])
        if waiting < self._interval and not last:
            return b""
        self._waiting[index] = 0
        ids = list(range(waiting))
        if path == COMPLETIONS:
            return self._chunk(index, text, ids=ids)
        if part is Part.REASONING:
            if self.body.get("include_reasoning") is False:
                return self._chunk(index, {}, ids=ids) if self._ids else b""
            return self._chunk(index, {"reasoning": text, "reasoning_content": text}, ids=ids)
        if part is Part.CALL and number % 3:
            # The parser waits for more.
            return self._chunk(index, {}, ids=ids) if self._ids else b""
        if part is Part.CALL:
            call = {
                "index": 0,
                "id": "c",
                "type": "function",
                "function": {"name": "look_up", "arguments": text},
            }
            return self._chunk(index, {"tool_calls": [call]}, ids=ids)
        return self._chunk(index, {"content": text}, ids=ids)

    def end(self) -> Iterator[bytes]:
        """What comes behind the last token."""
        path = self.request.path
        counts = self._anthropic()
        if path == "/v1/messages":
            delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts}
            yield event(delta, "message_delta")
            yield event({"type": "message_stop"}, "message_stop")
            return
        if path == "/v1/responses":
            usage = counts | {"total_tokens": self.input + self.output}
            yield event({"type": "response.completed", "response": {"usage": usage}}, "response.completed")
            return
        for index in range(len(self.made)):
            yield self._chunk(index, {} if path == CHAT else "", finish="stop", ids=[])
        if self._usage:
            yield event(self._frame() | {"choices": [], "usage": self._openai(self.input, self.output)})
        yield b"data: [DONE]\n\n"

    def _chunk(self, index: int, said: Json | str, *, finish: str | None = None, ids: list[int]) -> bytes:
        choice: Json = {"index": index, "logprobs": None, "finish_reason": finish}
        choice["text" if isinstance(said, str) else "delta"] = said
        if self._ids:
            choice["token_ids"] = ids
        found = self._frame() | {"choices": [choice]}
        if self.request.size:
            found["padding"] = "x" * self.request.size
        if self._running:
            n = max(len(self.made) // len(self.prompts), 1)
            found["usage"] = self._openai(self.prompts[index // n], self.made[index])
        return event(found)

    def _frame(self) -> Json:
        kind = "chat.completion.chunk" if self.request.path == CHAT else "text_completion"
        return {"id": "cmpl-1", "object": kind, "created": 1, "model": "llama"}

    # -- whole answers

    def make_all(self) -> None:
        """Every token, for an answer that is no stream."""
        self.made = [len(choice) for choice in self.request.choices]

    def whole(self) -> Json:
        """The answer."""
        path = self.request.path
        if not self.made:
            given = sum(self.prompts)
            data = [{"index": 0, "embedding": [0.5] * self.request.size, "relevance_score": 0.5}]
            return {"data": data, "usage": {"prompt_tokens": given, "total_tokens": given}}
        texts = ["".join(f"{word(n + 1)} " for n in range(count)) for count in self.made]
        if path == "/v1/messages":
            return {"content": [{"type": "text", "text": texts[0]}], "usage": self._anthropic()}
        if path == "/v1/responses":
            usage = self._anthropic() | {"total_tokens": self.input + self.output}
            return {"output": [{"content": [{"type": "output_text", "text": texts[0]}]}], "usage": usage}
        choices: list[Any] = [
            {
                "index": i,
                "finish_reason": "stop",
                "text": text,
                "message": {"role": "assistant", "content": text},
            }
            for i, text in enumerate(texts)
        ]
        return {"object": "x", "choices": choices, "usage": self._openai(self.input, self.output)}

    @staticmethod
    def _openai(given: int, made: int) -> Json:
        return {"prompt_tokens": given, "total_tokens": given + made, "completion_tokens": made}

    def _anthropic(self) -> Json:
        return {"input_tokens": self.input, "output_tokens": self.output}
