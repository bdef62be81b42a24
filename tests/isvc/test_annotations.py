"""Annotations: what each allows, who beats whom, and messages that help."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isvc import Access, GatewayRef, InvalidAnnotation, Limit, Settings, Unit, resolve
from isvc.annotations import ANNOTATIONS, unknown


def _of(**annotations: str) -> dict[str, str]:
    return {f"token-meter.dev/{name.replace('_', '-')}": text for name, text in annotations.items()}


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("inject", "true", "inject", True),
        ("inject", "false", "inject", False),
        ("model", "meta-llama/Llama-3.2:1b", "model", "meta-llama/Llama-3.2:1b"),
        ("port", "8000", "port", 8000),
        ("gateway", "default/ai.example", "gateway", GatewayRef("default", "ai.example")),
        ("limit", "1000/hour", "limit", Limit(1000, Unit.HOUR)),
        ("limit", "1/second", "limit", Limit(1, Unit.SECOND)),
        ("limit", "4294967295/day", "limit", Limit(2**32 - 1, Unit.DAY)),
        ("limit", "9/week", "limit", Limit(9, Unit.WEEK)),
        ("limit", "off", "limit", None),
        ("limit_by", "X-Team-Id", "limit_by", "x-team-id"),
        ("access", "open", "access", Access.OPEN),
        ("tls", "true", "tls", True),
        ("sidecar_cpu", "0.5", "sidecar_cpu", "0.5"),
        ("sidecar_memory", "256Mi", "sidecar_memory", "256Mi"),
        ("revision", "2", "revision", "2"),
    ],
)
def test_allowed_value(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(resolve(_of(**{name: text})), field) == value


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("inject", ["yes", "True", "1", ""]),
        ("model", ["a b", "a,b", "", "naïve", "x" * 254]),
        ("port", ["0", "65536", "http", "08000", "-1", "\uff18\uff10"]),
        ("gateway", ["name", "a/b/c", "A/b", "a/", "/b", "a/b_c"]),
        (
            "limit",
            [
                "1000",
                "0/hour",
                "-1/hour",
                "1e3/hour",
                "1000/hours",
                "1000/decade",
                "4294967296/day",
                "\u0661/day",
            ],
        ),
        ("limit_by", ["", "x user", "x:y", "x" * 257]),
        ("access", ["closed", "Gateway", ""]),
        ("tls", ["on"]),
        ("sidecar_cpu", ["0", "0m", "-1", "many", "1.5.5", "1\u0660"]),
        ("sidecar_memory", ["0Mi", "64MB", "64 Mi"]),
        ("revision", ["", "  "]),
    ],
)
def test_other_values_are_refused_with_name_value_and_what_is_allowed(name: str, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(InvalidAnnotation) as caught:
            resolve(_of(**{name: text}))
        message = str(caught.value)
        assert f"token-meter.dev/{name.replace('_', '-')}" in message
        assert f'"{text}"' in message
        assert ANNOTATIONS[name.replace("_", "-")].allowed in message


@given(st.integers(1, 2**32 - 1), st.sampled_from(list(Unit)))
def test_limit_reads_back_as_it_is_written(requests: int, unit: Unit) -> None:
    limit = Limit(requests, unit)
    assert resolve(_of(limit=str(limit))).limit == limit


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_clear_refusal(text: str) -> None:
    for annotation in ANNOTATIONS.values():
        with contextlib.suppress(InvalidAnnotation):
            annotation.value(text)


def test_isvc_beats_namespace_beats_cluster() -> None:
    cluster = {"limit": "1/day", "access": "open", "limit-by": "x-a"}
    namespace = _of(limit="2/day", access="gateway")
    settings = resolve(_of(limit="3/day"), namespace, cluster)
    assert (settings.limit, settings.access, settings.limit_by) == (Limit(3, Unit.DAY), Access.GATEWAY, "x-a")


def test_limit_off_of_the_isvc_beats_a_limit_of_the_namespace() -> None:
    assert resolve(_of(limit="off"), _of(limit="2/day")).limit is None


def test_defaults_are_the_guides() -> None:
    assert resolve({}) == Settings(limit=Limit(1000, Unit.HOUR), limit_by="x-user-id", access=Access.GATEWAY)


def test_what_only_an_isvc_may_say_is_not_taken_from_its_namespace() -> None:
    assert resolve({}, _of(port="1", inject="true", model="x")) == Settings()


def test_foreign_annotations_are_nobodys_business() -> None:
    assert resolve({"example.com/limit": "x"}) == Settings()
    assert unknown({"example.com/limit": "x", "token-meter.dev/limit": "1/day"}) == ()
