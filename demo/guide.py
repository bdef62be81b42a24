"""The guide, played by its clients: a chat, streams, one cut off, bodies past 32 KiB, one user's requests until 429.

Each step raises DemoError where the answer is not what the guide promises.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from demo.client import Answer, Client, Streamed, encode
from demo.processes import DemoError

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
KIB = 1024
LIMIT_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")

BEGINNING = "The sea is"
# A table's rule: Gemma reads sixteen of these as one token, so the prompt is long in bytes and quick to read.
RULE = "─" * 16
LONG_PROMPT = 200 * KIB
LONG_ANSWER = 100 * KIB
CUT_AFTER = 20
"""Chunks that arrive before the client goes."""
MOST_REQUESTS = 60
"""The limit has to show itself within so many requests."""


def chat(client: Client, model: str) -> Answer:
    """One question, one answer with its usage."""
    question = "What is the capital of France?"
    return _usage(_ok(client.post(CHAT, _chat(model, question, max_tokens=32))), "the chat")


def stream(client: Client, model: str, each: Callable[[str], None]) -> Streamed:
    """A streamed chat whose client does not ask for usage; it and the gateway get it all the same."""
    answer = client.stream(CHAT, _chat(model, "How does a rainbow form?", max_tokens=64), each)
    return _streamed(answer, "the stream")


def completion(client: Client, model: str, each: Callable[[str], None]) -> Streamed:
    """A streamed /v1/completions, which AI Gateway alone charges with nothing where no usage is asked for."""
    body = {"model": model, "prompt": BEGINNING, "max_tokens": 24, **_STEADY}
    return _streamed(client.stream(COMPLETIONS, body, each), "the streamed completion")


def cut(client: Client, model: str, each: Callable[[str], None]) -> Streamed:
    """A stream that its client cuts off long before its end."""
    body = _chat(model, "Write a long story about the sea.", max_tokens=400) | {
        "stop": [],
        "ignore_eos": True,
    }
    answer = client.stream(CHAT, body, each, cut_after=CUT_AFTER)
    if answer.status != 200 or answer.chunks != CUT_AFTER:
        raise DemoError(f"the stream to cut was answered {answer.status} with {answer.chunks} chunks")
    return answer


def remaining(client: Client, model: str) -> int:
    """What this user had left before a short chat."""
    answer = _ok(client.post(CHAT, _chat(model, "What is the capital of France?", max_tokens=4)))
    return int(answer.headers.get("x-ratelimit-remaining", "-1"))


def long_prompt(client: Client, model: str) -> tuple[int, Answer]:
    """A request of over 200 KiB; gives its size in bytes and the answer."""
    text = (
        "Here is an empty table:\n"
        + RULE * (LONG_PROMPT // len(RULE.encode()) + 1)
        + "\nHow many rows has it?"
    )
    body = _chat(model, text, max_tokens=8)
    return len(encode(body)), _usage(_ok(client.post(CHAT, body)), "the long prompt")


def long_answer(client: Client, model: str) -> Answer:
    """An answer of over 100 KiB: each token with its twenty likeliest ones."""
    body = _chat(model, "Write a long poem about rain.", max_tokens=84)
    body |= {"logprobs": True, "top_logprobs": 20, "stop": [], "ignore_eos": True}
    answer = _usage(_ok(client.post(CHAT, body)), "the long answer")
    if answer.size < LONG_ANSWER:
        raise DemoError(f"the long answer has only {answer.size} bytes, not {LONG_ANSWER}")
    return answer


def refused(client: Client, model: str, status: int) -> Answer:
    """A chat that must be answered with this status."""
    answer = client.post(CHAT, _chat(model, "Hello", max_tokens=1))
    if answer.status != status:
        raise DemoError(
            f"a request that had to be answered {status} was answered {answer.status}: {answer.body}"
        )
    return answer


@dataclass(frozen=True, slots=True)
class Spent:
    """One user's way into the limit: (tokens, x-ratelimit-remaining) of each answer, and the refusal."""

    answers: tuple[tuple[int, str], ...]
    refusal: Answer

    @property
    def headers(self) -> dict[str, str]:
        return {name: self.refusal.headers[name] for name in LIMIT_HEADERS}


def until_refused(client: Client, model: str, each: Callable[[int, str], None]) -> Spent:
    """Requests until 429; `each` gets the tokens and the x-ratelimit-remaining of every answer before it."""
    answers: list[tuple[int, str]] = []
    question = "Say hello to " + ", ".join(f"guest number {number}" for number in range(1, 31)) + "."
    for _ in range(MOST_REQUESTS):
        answer = client.post(CHAT, _chat(model, question, max_tokens=8))
        if answer.status == 429:
            if missing := [name for name in LIMIT_HEADERS if name not in answer.headers]:
                raise DemoError(f"the 429 came without {', '.join(missing)}")
            return Spent(tuple(answers), answer)
        tokens = int(_usage(_ok(answer), "a chat").usage["total_tokens"])
        answers.append((tokens, answer.headers.get("x-ratelimit-remaining", "?")))
        each(*answers[-1])
    raise DemoError(
        f"{MOST_REQUESTS} requests were answered and none was refused with 429: the limit does not work"
    )


# The same words in every run, and none of the next question that a base model goes on with.
_STEADY: Mapping[str, Any] = {"temperature": 0, "seed": 1, "frequency_penalty": 0.8, "stop": ["\n\n", "\nQ:"]}


def _chat(model: str, question: str, max_tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, **_STEADY}


def _ok(answer: Answer) -> Answer:
    if answer.status != 200:
        raise DemoError(f"a request was answered {answer.status}, not 200: {str(answer.body)[:300]}")
    return answer


def _usage(answer: Answer, what: str) -> Answer:
    if not answer.usage:
        raise DemoError(f"{what} came without usage")
    return answer


def _streamed(answer: Streamed, what: str) -> Streamed:
    if answer.status != 200 or not answer.usage:
        raise DemoError(f"{what} was answered {answer.status}, usage: {answer.usage or 'none'}")
    return answer
