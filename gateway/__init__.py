"""The controller: InferenceServices in, the objects that put them behind Envoy AI Gateway out.

`gateway.plan.plan` is pure, and so is everything beside it so far.
"""
