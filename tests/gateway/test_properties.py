"""What holds for every InferenceService: names that are valid and nobody else's, limits of the APIs kept."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway import names
from gateway.facts import Capabilities, Facts, Placement
from gateway.models import Model, public_names, share_out
from gateway.plan import Plan
from isvc import GatewayRef, Mode
from tests.gateway.scenes import keys, llm, of_kind, planned

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

# Few letters and many hyphens: that is where two names meet.
namespaces = st.from_regex(r"[ab]([-ab]{0,5}[ab])?|a{55}([-ab]{0,7}b)", fullmatch=True)
services = st.from_regex(r"[ab]([-ab]{0,5}[ab])?|a{45}([-ab]{0,17}b)|a{200}[ab]{0,40}", fullmatch=True)
owners = st.tuples(namespaces, services)
facts = st.builds(
    Facts,
    gateway=st.builds(GatewayRef, namespaces, services),
    placement=st.sampled_from(Placement),
    capabilities=st.builds(Capabilities, backend_namespace=st.booleans(), stream_idle_timeout=st.booleans()),
    rate_limit=st.booleans(),
    taken=st.frozensets(st.sampled_from(["m0", "m1", "m2", "a/m0"])),
    key=st.sampled_from(["secret", None]),
)
modes = st.sampled_from([Mode.STANDARD, Mode.KNATIVE])


def made(owner: tuple[str, str], known: Facts, mode: Mode = Mode.STANDARD) -> Plan:
    namespace, name = owner
    return planned(llm(name, namespace, args=["--served-model-name", "m0", "m1"]), known, mode)


@given(owners, facts, modes)
def test_every_name_is_valid_and_none_is_kserves(owner: tuple[str, str], known: Facts, mode: Mode) -> None:
    taken = {owner[1], f"{owner[1]}-predictor"}
    for kind, namespace, name in keys(made(owner, known, mode)):
        assert (LABEL if kind == "Service" else SUBDOMAIN).fullmatch(name)
        assert len(name) <= 253
        assert LABEL.fullmatch(namespace)
        assert namespace != owner[0] or name not in taken


@given(owners, facts)
def test_labels_are_label_values(owner: tuple[str, str], known: Facts) -> None:
    for obj in made(owner, known).objects:
        for value in obj["metadata"]["labels"].values():
            assert VALUE.fullmatch(value)


@given(owners, owners, facts, st.sampled_from(Placement))
def test_two_services_never_want_the_same_object(
    first: tuple[str, str], second: tuple[str, str], known: Facts, placement: Placement
) -> None:
    if first == second:
        return
    one, two = made(first, known), made(second, replace(known, placement=placement))
    shared = set(keys(one)) & set(keys(two))
    assert {kind for kind, *_ in shared} <= {"ClientTrafficPolicy"}


@given(owners, owners, st.integers(0, 3), st.integers(0, 3))
def test_further_routes_are_nobody_elses_either(
    first: tuple[str, str], second: tuple[str, str], i: int, j: int
) -> None:
    """All in the Gateway's own namespace: beside the model for one, beside the Gateway for another."""
    ours = {names.numbered(names.beside_gateway(*first), i), names.numbered(names.beside_model(first[1]), i)}
    if (first, i) != (second, j):
        assert names.numbered(names.beside_gateway(*second), j) not in ours
    if (first[1], i) != (second[1], j):
        assert names.numbered(names.beside_model(second[1]), j) not in ours


def test_the_second_route_of_a_service_is_not_the_first_of_another() -> None:
    assert names.numbered(names.beside_model("m"), 1) != names.beside_model("m-2")


@given(owners, facts, modes)
def test_the_same_input_gives_the_same_objects(owner: tuple[str, str], known: Facts, mode: Mode) -> None:
    assert made(owner, known, mode) == made(owner, known, mode)


@given(owners, facts)
def test_within_one_namespace_nothing_is_granted(owner: tuple[str, str], known: Facts) -> None:
    beside = replace(known, gateway=GatewayRef(owner[0], "g"))
    for there in (beside, replace(known, placement=Placement.LOCAL)):
        assert of_kind(made(owner, there), "ReferenceGrant") == []


@given(owners, facts)
def test_every_object_that_is_named_is_there(owner: tuple[str, str], known: Facts) -> None:
    result = made(owner, known)
    there = set(keys(result))
    for route in of_kind(result, "AIGatewayRoute"):
        own = route["metadata"]["namespace"]
        for rule in route["spec"]["rules"]:
            (ref,) = rule["backendRefs"]
            assert ("AIServiceBackend", ref.get("namespace", own), ref["name"]) in there
            assert ("namespace" in ref) <= known.capabilities.backend_namespace
    for backend in of_kind(result, "AIServiceBackend"):
        own = backend["metadata"]["namespace"]
        assert ("Backend", own, backend["spec"]["backendRef"]["name"]) in there
        (policy,) = of_kind(result, "BackendSecurityPolicy")
        secret = policy["spec"]["apiKey"]["secretRef"]
        assert ("Secret", own, secret["name"]) in there
        assert secret["namespace"] == own
    for obj in of_kind(result, "Backend"):
        host = obj["spec"]["endpoints"][0]["fqdn"]["hostname"].split(".")
        assert ("Service", host[1], host[0]) in there


@given(services, st.integers(0, 200))
def test_a_further_route_leaves_room_for_ai_gateways_own_names(service: str, index: int) -> None:
    name = names.numbered(names.beside_gateway("n" * 63, service), index)
    assert len(f"ai-eg-route-not-found-response-{name}") <= 253


def test_limits_are_reached_and_not_passed() -> None:
    """The most that fits in one route, and one more, for plain names and for renamed ones."""

    def shares(count: int, renamed: int = 0) -> list[list[int]]:
        plain = [Model(f"m{i}", f"m{i}") for i in range(count)]
        others = [Model(f"n/m{i}", f"m{i}") for i in range(renamed)]
        return [[len(rule) for rule in route] for route in share_out([*plain, *others])]

    assert shares(64) == [[64]]
    assert shares(65) == [[64, 1]]
    assert shares(127) == [[64, 63]]
    assert shares(128) == [[64], [64]]
    assert shares(1, renamed=14) == [[1] * 15]
    assert shares(1, renamed=15) == [[1] * 15, [1]]
    assert shares(126, renamed=2) == [[64, 62, 1], [1]]


served = st.lists(st.integers(0, 400).map("m{}".format), min_size=1, max_size=400)


@given(served, st.frozensets(st.integers(0, 60).map("m{}".format)))
def test_all_models_are_shared_out_once_within_the_limits_of_http_routes(
    wanted: list[str], taken: frozenset[str]
) -> None:
    models = public_names(wanted, namespace="n", isvc="i", taken=taken)
    routes = share_out(models)
    for route in routes:
        assert 1 <= len(route) <= 15, "an HTTPRoute has 16 rules, one is the catch-all"
        assert sum(map(len, route)) <= 127, "an HTTPRoute has 128 matches, one is the catch-all's"
        for rule in route:
            assert 1 <= len(rule) <= 64
            assert len(rule) == 1 or not any(model.renamed for model in rule)
    given_out = [model for route in routes for rule in route for model in rule]
    assert sorted(given_out, key=str) == sorted(models, key=str)
    assert len(routes) == 1 or len(models) > 15


@given(served, st.frozensets(st.integers(0, 60).map("m{}".format)))
def test_public_names_are_free_and_lead_to_every_served_name(
    wanted: list[str], taken: frozenset[str]
) -> None:
    models = public_names(wanted, namespace="n", isvc="i", taken=taken)
    assert {model.served for model in models} == set(wanted)
    assert len({model.public for model in models}) == len(models)
    assert not {model.public for model in models} & taken


def test_a_name_that_looks_like_a_longer_one_is_not_given_twice() -> None:
    for served in (["n/a", "a"], ["a", "n/a"]):
        models = public_names(served, namespace="n", isvc="i", taken={"a"})
        assert set(models) == {Model("n/a", "n/a"), Model("n/i/a", "a")}
