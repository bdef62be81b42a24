"""Admission: an InferenceService in, a JSON Patch out.

`decide`, `inject` and `patch` are pure; `injection` joins them.
"""
