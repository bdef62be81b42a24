"""Which requests are this InferenceService's, and what is counted about them: the AIGatewayRoute."""

from gateway.facts import AI_GATEWAY_GROUP, GATEWAY_API_GROUP, Facts
from gateway.models import Rule
from gateway.objects.metadata import Object, made
from gateway.target import Target
from isvc import LLM_KIND

MODEL_HEADER = "x-ai-eg-model"
"""AI Gateway writes the model of the request's body into it, over what a client sends."""
COSTS = {"llm_input_token": "InputToken", "llm_output_token": "OutputToken", "llm_total_token": "TotalToken"}
"""Metadata key in io.envoy.ai_gateway -> AI Gateway's type of cost."""
REQUEST_TIMEOUT = "3600s"
STREAM_IDLE_TIMEOUT = "300s"


def ai_gateway_route(target: Target, facts: Facts, name: str, rules: tuple[Rule, ...]) -> Object:
    """One route; AI Gateway makes an HTTPRoute of the same name from it, whoever has that name already."""
    parent = {
        "group": GATEWAY_API_GROUP,
        "kind": "Gateway",
        "name": facts.gateway.name,
        "namespace": facts.gateway.namespace,
    }
    version = f"{AI_GATEWAY_GROUP}/{facts.capabilities.ai_gateway}"
    return made("AIGatewayRoute", version, name, target.route_namespace, target) | {
        "spec": {
            "parentRefs": [parent],
            "rules": [_rule(target, facts, rule) for rule in rules],
            "llmRequestCosts": [{"metadataKey": key, "type": cost} for key, cost in COSTS.items()],
        }
    }


def _rule(target: Target, facts: Facts, models: Rule) -> Object:
    """One rule for all models that keep their names, else for one that the gateway renames on the way."""
    rule: Object = {
        "matches": [
            {"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": model.public}]} for model in models
        ],
        "backendRefs": [_ref(target, revision, models) for revision in target.revisions],
        # Without it 60 s, for the whole of a stream.
        "timeouts": {"request": REQUEST_TIMEOUT},
    }
    if facts.capabilities.stream_idle_timeout:
        rule["streamIdleTimeout"] = STREAM_IDLE_TIMEOUT
    return rule


def _ref(target: Target, revision: Target, models: Rule) -> Object:
    """The stable predictor's backend, or a canary's; weights only where there is something to share out."""
    ref: Object = {"name": revision.name}
    if target.kind == LLM_KIND:
        ref |= {"group": "inference.networking.k8s.io", "kind": "InferencePool"}
    # Left out within a namespace: AI Gateway 0.3 does not have the field.
    if target.backend_namespace != target.route_namespace:
        ref["namespace"] = target.backend_namespace
    if models[0].renamed:
        ref["modelNameOverride"] = models[0].served
    if target.canaries:
        ref["weight"] = revision.weight
    return ref
