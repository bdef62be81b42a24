"""What happens in one run, drawn from its seed: requests, what the model makes of each, and how each ends. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from tests.proof.tokens import words

Json = dict[str, Any]


class Ending(StrEnum):
    """How a request ends, unless the sidecar is killed before."""

    COMPLETE = "complete"
    SLOW = "complete, read slowly"
    ABORT = "client aborts"
    ERROR = "error in the stream"
    CUT = "server's wire cut"
    REFUSED = "server refuses"
    HELD = "held open for a kill"


class Part(StrEnum):
    """What a token of the model's is part of."""

    REASONING = "reasoning"
    TEXT = "text"
    CALL = "tool call"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: the client's side of it, and what the server will do.

    `choices` has the tokens of each choice (of each prompt, in vLLM's order of indices), `order` the choice of each
    token as they are made, `at` the number of tokens after which the ending comes. `early_head`: the head goes out
    before the first token.
    """

    id: str
    path: str
    body: Json
    choices: Sequence[Sequence[Part]]
    order: Sequence[int]
    ending: Ending
    at: int
    gateway: bool
    early_head: bool
    status: int = 200
    reset: bool = False
    closes: bool = False
    size: int = 0

    @property
    def stream(self) -> bool:
        """Whether the client asks for a stream."""
        return bool(self.body.get("stream"))

    @property
    def kind(self) -> str:
        """Its row in the table."""
        return f"{self.path}, stream" if self.stream else self.path


@dataclass(frozen=True, slots=True)
class Scenario:
    """`held` are the requests that are open at each kill; `requests` run until they are all done."""

    seed: int
    requests: Sequence[Request]
    held: Sequence[Sequence[Request]]

    @property
    def everything(self) -> list[Request]:
        """All of them."""
        return [*self.requests, *(one for group in self.held for one in group)]


_HELD_AT_A_KILL = 8
_TOOLS = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
]


def draw(seed: int, requests: int, kills: int) -> Scenario:
    """The scenario of a seed, of about so many requests."""
    random = Random(seed)  # noqa: S311 no secret
    made = _Maker(random)
    held = [[made.held() for _ in range(_HELD_AT_A_KILL)] for _ in range(kills)]
    rest = max(requests - kills * _HELD_AT_A_KILL, 0)
    return Scenario(seed, [made.request() for _ in range(rest)], held)


class _Maker:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = 0

    def request(self) -> Request:
        """Any request that ends by itself."""
        kinds = (self._chat, self._completion, self._responses, self._messages, self._pooling)
        (kind,) = self._random.choices(kinds, (40, 25, 9, 9, 17))
        return kind()

    def held(self) -> Request:
        """A stream or an answer that is under way when the sidecar is killed."""
        kind = self._random.choice((self._chat, self._chat, self._completion, self._messages))
        return kind(held=True)

    # -- kinds

    def _chat(self, *, held: bool = False) -> Request:
        random = self._random
        body: Json = {"messages": [{"role": "user", "content": self._words(1, 60)}]}
        if random.random() < 0.3:
            body["messages"].insert(
                0, {"role": "system", "content": [{"type": "text", "text": self._words(1, 9)}]}
            )
        if random.random() < 0.02:
            body["messages"][-1]["content"] = self._words(12_000, 14_000)
        parts = [Part.TEXT]
        if random.random() < 0.3:
            parts.insert(0, Part.REASONING)
            if random.random() < 0.5:
                body["include_reasoning"] = False
        if random.random() < 0.3:
            body["tools"] = _TOOLS
            parts.append(Part.CALL)
        choices = [self._tokens(parts) for _ in range(self._n(body))]
        return self._finish("/v1/chat/completions", body, choices, held=held, stream=self._stream(body, 0.75))

    def _completion(self, *, held: bool = False) -> Request:
        random = self._random
        prompts: list[Any] = [self._words(1, 40) for _ in range(random.choice((1, 1, 2, 3)))]
        if random.random() < 0.2:
            prompts = [[random.randrange(32_000) for _ in range(random.randint(1, 40))] for _ in prompts]
        body: Json = {"prompt": prompts[0] if len(prompts) == 1 else prompts}
        n = self._n(body)
        choices = [self._tokens([Part.TEXT]) for _ in range(n * len(prompts))]
        return self._finish("/v1/completions", body, choices, held=held, stream=self._stream(body, 0.75))

    def _responses(self) -> Request:
        body: Json = {"input": self._words(1, 40)}
        if self._random.random() < 0.5:
            body = {
                "input": [{"role": "user", "content": [{"type": "input_text", "text": body["input"]}]}],
                "instructions": self._words(1, 9),
            }
        return self._plain("/v1/responses", body)

    def _messages(self, *, held: bool = False) -> Request:
        body: Json = {"messages": [{"role": "user", "content": self._words(1, 40)}]}
        if self._random.random() < 0.5:
            body["system"] = self._words(1, 30)
        return self._plain("/v1/messages", body, held=held)

    def _plain(self, path: str, body: Json, *, held: bool = False) -> Request:
        parts = [Part.TEXT]
        if self._random.random() < 0.3:
            parts.insert(0, Part.REASONING)
        if self._random.random() < 0.3:
            parts.append(Part.CALL)
        if self._random.random() < 0.6:
            body["stream"] = True
        return self._finish(path, body, [self._tokens(parts)], held=held, stream=bool(body.get("stream")))

    def _pooling(self) -> Request:
        random = self._random
        path = random.choice(("/v1/embeddings", "/v1/embeddings", "/v1/rerank", "/v1/score"))
        texts = [self._words(1, 30) for _ in range(random.randint(1, 5))]
        body: Json = {"input": texts} if path == "/v1/embeddings" else {"query": texts[0], "documents": texts}
        return self._finish(path, body, [], held=False, stream=False)

    # -- members

    def _n(self, body: Json) -> int:
        n = self._random.choice((1, 1, 1, 2, 3, 4))
        if n > 1 or self._random.random() < 0.2:
            body["n"] = n
        return n

    def _stream(self, body: Json, share: float) -> bool:
        random = self._random
        if random.random() >= share:
            return False
        body["stream"] = True
        options: Json | None = random.choice(
            (None, None, {}, {"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True},
             {"include_usage": False})
        )  # fmt: skip
        if options is not None:
            body["stream_options"] = options
        if random.random() < 0.1:
            body["stream_interval"] = random.choice((1, 5, 9_999))
        if random.random() < 0.05:
            body["return_token_ids"] = True
        return True

    def _tokens(self, parts: Sequence[Part]) -> list[Part]:
        random = self._random
        most = 400 if random.random() < 0.05 else 40
        return [part for part in parts for _ in range(random.randint(3, most))]

    def _words(self, least: int, most: int) -> str:
        return words(self._random.randrange(10_000), self._random.randint(least, most)).strip()

    # -- the end

    def _finish(
        self, path: str, body: Json, choices: list[list[Part]], *, held: bool, stream: bool
    ) -> Request:
        random = self._random
        self._number += 1
        order = [index for index, tokens in enumerate(choices) for _ in tokens[1:]]
        random.shuffle(order)
        # A prompt has been read when its first token is made: each choice makes one before any makes two.
        order = [*range(len(choices)), *order]
        ending = Ending.HELD if held else self._ending(stream=stream)
        at = len(order)
        if ending is Ending.ERROR or (stream and ending in (Ending.ABORT, Ending.CUT, Ending.HELD)):
            at = 0 if random.random() < 0.15 else random.randint(len(choices), len(order) - 1)
        return Request(
            id=f"r{self._number:05d}",
            path=path,
            body={"model": "llama", **body, "max_tokens": 4_000},
            choices=choices,
            order=order,
            ending=ending,
            at=at,
            gateway=random.random() < 0.6,
            early_head=random.random() < 0.7,
            status=random.choice((400, 404, 429, 500, 503)) if ending is Ending.REFUSED else 200,
            reset=random.random() < 0.5,
            closes=random.random() < 0.1,
            size=random.choice((10, 400, 3_000)) if not choices else 800 * (ending is Ending.SLOW),
        )

    def _ending(self, *, stream: bool) -> Ending:
        (ending,) = self._random.choices(
            (Ending.COMPLETE, Ending.SLOW, Ending.ABORT, Ending.ERROR, Ending.CUT, Ending.REFUSED),
            (44, 6, 32, 7, 7, 4) if stream else (72, 4, 14, 0, 4, 6),
        )
        return ending
