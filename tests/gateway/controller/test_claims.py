"""Who keeps a model's name behind a Gateway."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.claims import Claim, taken
from gateway.models import public_names
from isvc import GatewayRef

ONE, TWO = GatewayRef("default", "one"), GatewayRef("default", "two")


def claim(isvc: str, created: str, *served: str, namespace: str = "a", gateway: GatewayRef = ONE) -> Claim:
    return Claim(namespace, isvc, created, gateway, served)


def test_the_older_keeps_the_name_whoever_comes_first_in_the_list() -> None:
    old, new = claim("z", "2026-01-01T00:00:00Z", "llama"), claim("b", "2026-01-02T00:00:00Z", "llama")
    assert taken([new, old]) == {("a", "z"): frozenset(), ("a", "b"): {"llama"}}


def test_of_the_same_second_one_has_it_and_always_the_same() -> None:
    first, second = claim("b", "2026-01-01T00:00:00Z", "llama"), claim("c", "2026-01-01T00:00:00Z", "llama")
    assert taken([first, second]) == taken([second, first])


def test_behind_another_gateway_the_name_is_free() -> None:
    both = [claim("a", "1", "llama"), claim("b", "2", "llama", gateway=TWO)]
    assert set(taken(both).values()) == {frozenset()}


def test_when_the_older_goes_the_newer_has_the_plain_name() -> None:
    assert taken([claim("b", "2", "llama")]) == {("a", "b"): frozenset()}


claims = st.lists(
    st.builds(
        Claim,
        namespace=st.sampled_from("ab"),
        isvc=st.sampled_from(["x", "y", "z"]),
        created=st.sampled_from("12"),
        gateway=st.sampled_from([ONE, TWO]),
        served=st.lists(st.sampled_from(["m", "a/m", "b/m"]), min_size=1, max_size=3).map(tuple),
    ),
    unique_by=lambda one: (one.namespace, one.isvc),
)


@given(claims)
def test_no_two_answer_to_one_name_and_everybody_is_asked_for_by_some(found: list[Claim]) -> None:
    names = taken(found)
    public: set[tuple[GatewayRef, str]] = set()
    for one in found:
        mine = public_names(
            one.served, namespace=one.namespace, isvc=one.isvc, taken=names[one.namespace, one.isvc]
        )
        assert {model.served for model in mine} == set(one.served)
        for model in mine:
            assert (one.gateway, model.public) not in public
            public.add((one.gateway, model.public))
