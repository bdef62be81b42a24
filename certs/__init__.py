"""Certificates of a webhook that renew themselves, and the small Kubernetes client under them.

`keys` and `bundle` are pure; `authority` keeps the CA and its publication (the leader), `serving` a replica's own
leaf and its SSLContext, `leader` the Lease that says who leads, `api` and `watch` speak to the API server.
"""
