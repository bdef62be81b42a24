"""One run of the demo from the InferenceService to the four counts."""

import http.client
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import parts
from demo import counters, guide, scene, stack
from demo.client import Client
from demo.outcome import Abort, Counts, Outcome
from demo.processes import DemoError, Processes, free_ports, running
from demo.report import Report
from demo.scene import Ports, Scene
from demo.values import UnsupportedError

SETTLE = 30.0
"""Seconds that a charge or an event may take to arrive: both are sent when the answer has ended."""
BEFORE_THE_HOUR = 20.0
"""Seconds within which an abort, its charge and the next request have to be in one window of the limit."""

Done = Callable[[Outcome], None]


def play(report: Report, done: Done, keep: bool = False) -> None:
    """Play the guide and hand its outcome to `done`; with `keep`, go on until interrupted.

    Raises DemoError. Everything that was started has ended when this returns or raises.
    """
    with tempfile.TemporaryDirectory(prefix="token-meter-demo-") as name, running(Path(name)) as processes:
        try:
            ports = Ports(*free_ports(len(Ports.__dataclass_fields__)))
            prepared = _prepare(report, ports)
            _start(report, prepared, ports, processes, Path(name))
            done(_guide(report, prepared, ports))
            if keep:
                _keep(report, prepared, ports, processes, Path(name))
        except parts.PartError as error:
            raise DemoError(str(error)) from error
        except UnsupportedError as error:
            raise DemoError(f"the demo's Envoy cannot play these gateway objects: {error}") from error
        except (OSError, http.client.HTTPException, DemoError) as error:
            # A child that has died is the better explanation.
            processes.check()
            if isinstance(error, DemoError | BrokenPipeError):  # the latter: nobody reads our own output on
                raise
            raise DemoError(
                f"a request failed: {error!r}\nTo do: run it again; if it stays, please report it"
            ) from error


def _prepare(report: Report, ports: Ports) -> Scene:
    prepared = scene.prepare(ports)
    report.step("The guide's InferenceService, and what the webhook adds to it")
    report.say(
        f"demo/inferenceservice.yaml as its user wrote it, in {prepared.patch_operations} patch operations; "
        f"the ports are free ones of this machine (in a cluster: 9180 and 9181)."
    )
    report.diff(prepared.before, prepared.after)
    report.step("The gateway objects that the controller makes of it")
    report.objects(prepared.objects)
    limit = prepared.limit
    report.say(
        f"{limit.requests} tokens per {limit.unit.lower()} for each {limit.headers[0].name}; "
        "`token-meter render` prints them whole."
    )
    return prepared


def _start(report: Report, prepared: Scene, ports: Ports, processes: Processes, folder: Path) -> None:
    report.step("The real programs")
    begin = time.monotonic()
    stack.start(processes, prepared, ports, stack.fetch(), folder)
    report.say(
        f"ready in {time.monotonic() - begin:.1f} s. Envoy plays the AI Gateway's data plane with its own filters, "
        "configured from the objects above; the sidecar runs with the environment of the injected container."
    )
    report.table(
        ("program", "address"),
        [
            ("Envoy (for AI Gateway)", f"127.0.0.1:{ports.gateway}"),
            ("sidecar", f"127.0.0.1:{ports.sidecar}"),
            ("llama.cpp with Gemma 3 270M", f"127.0.0.1:{ports.model}"),
            ("ratelimit", f"127.0.0.1:{ports.ratelimit}"),
            ("valkey", f"127.0.0.1:{ports.valkey}"),
            ("ledger", f"127.0.0.1:{ports.ledger}"),
        ],
    )


def _guide(report: Report, prepared: Scene, ports: Ports) -> Outcome:
    model = prepared.model
    alice, bob, carol = (Client(ports.gateway, user) for user in ("alice", "bob", "carol"))

    report.step("alice chats")
    chat = guide.chat(alice, model)
    report.show(chat.text.strip())
    report.say(_usage(chat.usage))

    report.step("alice streams, without asking for usage")
    with report.streaming() as piece:
        stream = guide.stream(alice, model, piece)
    report.say(f"{stream.chunks} chunks; {_usage(stream.usage)}")

    report.step("alice streams /v1/completions, where AI Gateway alone charges nothing")
    with report.streaming(guide.BEGINNING) as piece:
        completion = guide.completion(alice, model, piece)
    report.say(f"{completion.chunks} chunks; {_usage(completion.usage)}")

    report.step("erin cuts a stream off, for which AI Gateway charges nothing")
    cut = _cut(report, prepared, ports)

    report.step("Bodies that a gateway's default buffer of 32 KiB refuses")
    size, answer = guide.long_prompt(bob, model)
    report.say(f"bob's prompt of {size:,} bytes is answered {answer.status}; {_usage(answer.usage)}")
    answer = guide.long_answer(carol, model)
    report.say(f"carol's answer of {answer.size:,} bytes arrives whole; {_usage(answer.usage)}")

    report.step("Ways that lead nowhere")
    answer = guide.refused(Client(ports.sidecar), model, 401)
    report.say(f"past the gateway, straight to the pod: {answer.status} {answer.message}")
    answer = guide.refused(alice, "gpt-unknown", 404)
    report.say(f"a model that no route has: {answer.status} {answer.message}")

    report.step("alice goes on until her limit")
    spent = guide.until_refused(
        alice, model, lambda tokens, left: report.show(f"200  {tokens} tokens  x-ratelimit-remaining: {left}")
    )
    report.show("\n".join(["429", *(f"{name}: {value}" for name, value in spent.headers.items())]))

    report.step("Four counts of the same tokens")
    counts = settled(lambda: _counts(prepared, ports, cut.unsent))
    report.table(
        ("counted by", "from", "tokens"),
        [
            ("model server", "llama.cpp's own counters", f"{counts.model:,}"),
            ("sidecar", "token_meter_tokens_total", f"{counts.sidecar:,}"),
            ("gateway", "the rate limit service's buckets in valkey", f"{counts.gateway:,}"),
            ("ledger", "GET /api/v1/usage", f"{counts.ledger:,}"),
        ],
    )
    if not counts.equal:
        raise DemoError("the four counts differ: please report this with the table above")
    report.verdict(
        True, "All four are equal: every token was metered and charged once, aborted ones included."
    )
    if cut.unsent:
        report.say(
            f"(llama.cpp had made {cut.unsent} more of erin's tokens when it noticed that she had gone: nobody was sent"
            " those, nobody pays for them, and its count above is without them.)"
        )
    return Outcome(prepared, chat, stream, cut, spent, counts)


def settled(read: Callable[[], Counts], seconds: float = SETTLE) -> Counts:
    """The counts once they are equal, or as they are when the time is over."""
    end = time.monotonic() + seconds
    while not (counts := read()).equal and time.monotonic() < end:
        time.sleep(0.1)
    return counts


def _cut(report: Report, prepared: Scene, ports: Ports) -> Abort:
    """Cut a stream off, and see it charged."""
    if (soon := 3600 - time.time() % 3600) < BEFORE_THE_HOUR:
        report.say(
            f"(waiting {soon:.0f} s for the next hour: a limit's window is about to end, and so would the charge.)"
        )
        time.sleep(soon)
    erin = Client(ports.gateway, "erin")
    before = counters.model_tokens(counters.scrape(ports.model))
    with report.streaming() as piece:
        stream = guide.cut(erin, prepared.model, piece)
    until(
        lambda: counters.model_is_idle(counters.scrape(ports.model)),
        "the model goes on with an aborted stream",
    )
    made = counters.model_tokens(counters.scrape(ports.model)) - before
    until(lambda: _charges(ports) == 1, "the aborted stream is not charged")
    (row,) = counters.usage(ports.ledger, user="erin", group_by="outcome")["rows"]
    tokens = row["input_tokens"] + row["output_tokens"]
    # What she was sent is counted; what is counted was made.
    if (
        row["outcome"] != "client_disconnect"
        or not stream.chunks <= row["output_tokens"]
        or not tokens <= made
    ):
        raise DemoError(
            f"the aborted stream of {stream.chunks} chunks and {made} tokens is recorded as {row}"
        )
    left = guide.remaining(erin, prepared.model)
    if left != prepared.limit.requests - tokens:
        raise DemoError(
            f"after an aborted stream of {tokens} tokens {left} of {prepared.limit.requests} were left"
        )
    report.say(
        f"cut after {stream.chunks} chunks; the ledger took {row['input_tokens']} in + {row['output_tokens']} out "
        f"from her limit: her next request had {left} of {prepared.limit.requests} left."
    )
    return Abort(stream.chunks, row["input_tokens"], row["output_tokens"], made - tokens, True)


def _charges(ports: Ports) -> int:
    """How many events the ledger has charged; raises DemoError where it could not charge one."""
    ends = counters.charged_events(counters.scrape(ports.ledger_admin))
    if ends["missed"] or ends["uncertain"]:
        raise DemoError(f"the ledger could not charge what the gateway did not: {ends}")
    return ends["charged"]


def until(true: Callable[[], bool], otherwise: str, seconds: float = SETTLE) -> None:
    """Wait for it; raises DemoError with `otherwise` where the time is over."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise DemoError(f"{otherwise} after {seconds:.0f} s: please report this")
        time.sleep(0.05)


def _counts(prepared: Scene, ports: Ports, unsent: int) -> Counts:
    """`unsent` tokens are llama.cpp's alone: made when nobody was there any more."""
    return Counts(
        model=counters.model_tokens(counters.scrape(ports.model)) - unsent,
        sidecar=counters.sidecar_tokens(counters.scrape(ports.sidecar_admin)),
        gateway=counters.gateway_tokens(ports.valkey, prepared.gateway.domain),
        ledger=counters.ledger_tokens(ports.ledger),
    )


def _usage(usage: dict[str, object]) -> str:
    return "usage: " + " + ".join(
        f"{usage[key]} {word}" for key, word in (("prompt_tokens", "in"), ("completion_tokens", "out"))
    )


def _keep(report: Report, prepared: Scene, ports: Ports, processes: Processes, folder: Path) -> None:
    body = f'{{"model": "{prepared.model}", "messages": [{{"role": "user", "content": "Hello"}}]'
    url = "/v1/chat/completions -H 'content-type: application/json'"
    report.step("Left running until Ctrl-C")
    report.show(
        f"""# through the gateway, as dave
curl -i http://127.0.0.1:{ports.gateway}{url} -H 'x-user-id: dave' -d '{body}, "max_tokens": 40}}'
# a stream
curl -N http://127.0.0.1:{ports.gateway}{url} -H 'x-user-id: dave' -d '{body}, "max_tokens": 40, "stream": true}}'
# past the gateway: refused
curl -i http://127.0.0.1:{ports.sidecar}{url} -d '{body}}}'
# who has used how many tokens
curl -s 'http://127.0.0.1:{ports.ledger}/api/v1/usage?group_by=user,outcome&format=csv'
# the sidecar's and the model's counters
curl -s http://127.0.0.1:{ports.sidecar_admin}/metrics | grep '^token_meter_tokens_total'
curl -s http://127.0.0.1:{ports.model}/metrics | grep '^llamacpp:.*tokens.*_total'
# configuration and logs
ls {folder}"""
    )
    while True:
        processes.check()
        time.sleep(0.5)
