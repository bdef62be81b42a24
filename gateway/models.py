"""Which names clients ask for, and how they share out over a route's rules.

Of two InferenceServices with one model name behind one Gateway the older keeps it; the newer is asked for by
`<namespace>/<model>`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

MAX_RULES = 15
"""AIGatewayRoute's own limit since AI Gateway 0.7: the HTTPRoute made from it has 16, one is the catch-all."""
MAX_MATCHES = 64
"""HTTPRoute's limit for each rule; AIGatewayRoute itself would take 128."""
MAX_ROUTE_MATCHES = 127
"""HTTPRoute's limit for all rules is 128, one is the catch-all's."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model: the name that clients send, and the one that the server knows."""

    public: str
    served: str

    @property
    def renamed(self) -> bool:
        return self.public != self.served


def public_names(
    served: Iterable[str], *, namespace: str, isvc: str, taken: Collection[str]
) -> tuple[Model, ...]:
    """Each served name once, with the first public name that is free; a served name is never lost to another."""
    names = dict.fromkeys(served)
    models: dict[str, Model] = {}
    for name in names:
        # The last holds both namespace and InferenceService: nobody else can have asked for it.
        choices = (name, f"{namespace}/{name}", f"{namespace}/{isvc}/{name}")
        free = (c for c in choices if c not in taken and (c == name or c not in names))
        public = next(free, choices[-1])
        models[public] = Model(public, name)
    return tuple(models.values())


Rule = tuple[Model, ...]
"""The models of one rule: any number that keep their names, or a single renamed one (its backendRef renames)."""


def share_out(models: Sequence[Model]) -> tuple[tuple[Rule, ...], ...]:
    """The rules of each route needed; one route with one rule for nearly everybody."""
    plain = [model for model in models if not model.renamed]
    rules: list[Rule] = [tuple(plain[i : i + MAX_MATCHES]) for i in range(0, len(plain), MAX_MATCHES)]
    rules += [(model,) for model in models if model.renamed]
    routes: list[list[Rule]] = [[]]
    for rule in rules:
        matches = sum(map(len, routes[-1])) + len(rule)
        if len(routes[-1]) == MAX_RULES or matches > MAX_ROUTE_MATCHES:
            routes.append([])
        routes[-1].append(rule)
    return tuple(map(tuple, routes))
