"""The stand-in for AI Gateway's controller does what AI Gateway 1.1.0 did in every recorded case."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.ai_gateway_standin import Outcome, accepted, key, outcome

FOLDER = Path(__file__).parents[1] / "data" / "recorded" / "ai-gateway"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
MADE = ("HTTPRoute", "HTTPRouteFilter")


def recorded(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def outcomes(case: Any) -> dict[str, Outcome]:
    """What the stand-in makes of each AIGatewayRoute of a case."""
    world = {key(obj): obj for obj in case["input"]}
    return {"/".join(name): outcome(obj, world) for name, obj in world.items() if name[0] == "AIGatewayRoute"}


def without_generation(metadata: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in metadata.items() if field != "generation"}


def test_every_recorded_case_is_there() -> None:
    assert len(CASES) == 16


@pytest.mark.parametrize("name", CASES)
def test_it_makes_the_same_objects(name: str) -> None:
    case = recorded(name)
    expected = {
        place: {"metadata": without_generation(obj["metadata"]), "spec": obj["spec"]}
        for place, obj in case["result"].items()
        if place.split("/")[0] in MADE
    }
    made = [obj for found in outcomes(case).values() for obj in found.objects]
    found = {"/".join(key(obj)): {"metadata": obj["metadata"], "spec": obj["spec"]} for obj in made}
    assert found == expected


@pytest.mark.parametrize("name", CASES)
def test_it_says_the_same(name: str) -> None:
    case = recorded(name)
    said = {place: found.condition for place, found in outcomes(case).items()}
    said |= {
        "/".join(key(obj)): accepted("AIServiceBackend")
        for obj in case["input"]
        if obj["kind"] == "AIServiceBackend"
    }
    for place, condition in said.items():
        assert case["result"][place]["status"]["conditions"] == [condition]
