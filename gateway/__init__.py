"""The controller: InferenceServices in, the objects that put them behind Envoy AI Gateway out.

Pure: `plan` and `objects` (what is made), `cases`, `choice`, `claims`, `intent`, `difference` (for whom, and what of
it has to be written). The shell: `world` watches, `reconcile` writes, `controller` and `server` run both.
"""
