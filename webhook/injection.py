"""One InferenceService through the whole of it: read, decide, inject or remove, patch.

The command line and the admission both call this.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import isvc
from isvc import InferenceService
from isvc.annotations import unknown
from webhook.decide import decide
from webhook.inject import inject
from webhook.patch import Operation, patch
from webhook.plan import Decision, Facts, Inject, Skip
from webhook.reasons import Reason
from webhook.remove import remove
from webhook.restore import restore


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it: `obj` is the object to store, `patch` leads to it; a skipped object is as it was,
    but for one that no longer asks for the sidecar: there it is taken out.

    `warnings` are sentences for the person who applied it.
    """

    service: InferenceService
    decision: Decision
    obj: dict[str, Any]
    patch: list[Operation]
    warnings: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return bool(self.patch)


def run(obj: Mapping[str, Any], facts: Facts | None = None, old: Mapping[str, Any] | None = None) -> Result:
    """Decide about a raw InferenceService and inject it; `obj` is not changed.

    `old` is the stored object that an update replaces: a sidecar that it has and `obj` has lost is put back first.

    Raises isvc.Malformed where it does not have an InferenceService's form, isvc.InvalidAnnotation where a
    setting of its own, its namespace or the cluster is not allowed.
    """
    facts = facts or Facts()
    restored = restore(obj, old)
    given = restored or obj
    service = isvc.read(
        given,
        default_mode=facts.default_mode,
        default_namespace=facts.default_namespace,
        serving_runtimes=facts.serving_runtimes,
    )
    decision = decide(service, facts)
    match decision:
        case Inject(plan):
            after = inject(given, plan)
        case Skip(Reason.OPTED_OUT | Reason.NOT_ANNOTATED):
            after = remove(given)
        case _ if restored:
            after = remove(restored)  # what led to the lost sidecar goes too
        case _:
            after = copy.deepcopy(dict(obj))
    return Result(service, decision, after, patch(obj, after), unknown(service.annotations))
