"""Which names are taken for whom: of all InferenceServices behind one Gateway the older keeps its model's name."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.models import public_names
from isvc import GatewayRef


@dataclass(frozen=True, slots=True)
class Claim:
    """An InferenceService behind a Gateway, and the names that its server knows.

    `created` is its creationTimestamp; of two of the same second the one that sorts first is the older.
    """

    namespace: str
    isvc: str
    created: str
    gateway: GatewayRef
    served: tuple[str, ...]


def taken(claims: Iterable[Claim]) -> dict[tuple[str, str], frozenset[str]]:
    """For each (namespace, InferenceService) the names that older ones have, as far as it would want them."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    names: dict[GatewayRef, set[str]] = {}
    for claim in sorted(claims, key=lambda one: (one.created, one.namespace, one.isvc)):
        others = names.setdefault(claim.gateway, set())
        wished = {
            wish
            for name in claim.served
            for wish in (name, f"{claim.namespace}/{name}", f"{claim.namespace}/{claim.isvc}/{name}")
        }
        mine = frozenset(wished & others)
        models = public_names(claim.served, namespace=claim.namespace, isvc=claim.isvc, taken=mine)
        others.update(model.public for model in models)
        found[claim.namespace, claim.isvc] = mine
    return found
