"""The bucket that a request was counted in follows from the objects and its headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isvc import GatewayRef
from ledger.buckets import Bucket, buckets
from tests.gateway.scenes import FACTS, Object, llm, of_kind, planned

USER, MODEL = "x-user-id", "x-ai-eg-model"
ROUTE = "httproute/models/token-meter-m/rule/0/match/0/*"


def listener(name: str = "http", protocol: str = "HTTP", hostname: str = "") -> Object:
    return {"name": name, "protocol": protocol} | ({"hostname": hostname} if hostname else {})


def gateway(*listeners: Object, ref: GatewayRef = FACTS.gateway) -> Object:
    spec = {"listeners": list(listeners or (listener(),))}
    return {"metadata": {"name": ref.name, "namespace": ref.namespace}, "spec": spec}


def of(obj: Object, headers: dict[str, str], place: Object | None = None) -> list[Bucket]:
    result = planned(obj)
    pairs = zip(of_kind(result, "AIGatewayRoute"), of_kind(result, "BackendTrafficPolicy"), strict=True)
    return [found for route, policy in pairs for found in buckets(place or gateway(), route, policy, headers)]


def test_a_user_has_a_bucket_of_his_own() -> None:
    expected = ((ROUTE, ROUTE), ("rule-0-match-0", "alice"), ("rule-0-match-1", "rule-0-match-1"))
    found = of(llm(args=["--model_name=m"]), {MODEL: "m", "X-User-Id": "alice"})
    assert found == [Bucket("default/envoy-ai-gateway-basic/http", expected)]


def test_all_without_the_header_share_one() -> None:
    (found,) = of(llm(args=["--model_name=m"]), {MODEL: "m"})
    assert found.entries[1:] == (("rule-1-match-0", "rule-1-match-0"), ("rule-1-match-1", "rule-1-match-1"))


def test_each_model_has_its_own_match_and_rules() -> None:
    args = ["--served-model-name", "a", "b"]
    (found,) = of(llm(args=args), {MODEL: "b", USER: "alice"})
    assert found.entries[0][0].endswith("/rule/0/match/1/*")
    assert found.entries[1] == ("rule-2-match-0", "alice")


def test_with_more_models_than_rules_the_model_is_in_the_bucket_by_its_name() -> None:
    args = ["--served-model-name", *(f"model-{i}" for i in range(200))]
    (found,) = of(llm(args=args), {MODEL: "model-150", USER: "alice"})
    assert found.entries[1:] == (("rule-0-match-0", "alice"), ("rule-0-match-1", "model-150"))


@pytest.mark.parametrize(
    ("listeners", "expected"),
    [
        ((listener("web"),), "default/envoy-ai-gateway-basic/web"),
        ((listener("a"), listener("b", "HTTPS")), "default/envoy-ai-gateway-basic/b"),
        ((listener("a", "HTTPS"), listener("tcp", "TCP")), "default/envoy-ai-gateway-basic/a"),
    ],
)
def test_the_domain_is_the_listener(listeners: tuple[Object, ...], expected: str) -> None:
    (found,) = of(llm(args=["--model_name=m"]), {MODEL: "m"}, gateway(*listeners))
    assert found.domain == expected


def test_of_two_listeners_alike_none_is_guessed() -> None:
    two = gateway(listener("a"), listener("b"))
    assert of(llm(args=["--model_name=m"]), {MODEL: "m", USER: "alice"}, two) == []


def test_a_listeners_hostname_is_in_the_bucket() -> None:
    (found,) = of(llm(args=["--model_name=m"]), {MODEL: "m"}, gateway(listener(hostname="llm.example.com")))
    assert found.entries[0][0].endswith("/match/0/llm_example_com")


def test_without_a_limit_or_for_another_model_there_is_none() -> None:
    assert of(llm(args=["--model_name=m"], annotations={"limit": "off"}), {MODEL: "m", USER: "alice"}) == []
    assert of(llm(args=["--model_name=m"]), {MODEL: "other", USER: "alice"}) == []


@given(user=st.none() | st.text(min_size=1), model=st.sampled_from(["a", "b", "c"]))
def test_every_request_is_in_exactly_one_bucket(user: str | None, model: str) -> None:
    headers = {MODEL: model} | ({USER: user} if user is not None and "\n" not in user else {})
    assert len(of(llm(args=["--served-model-name", "a", "b", "c"]), headers)) == 1
