"""The controller's client of the API server: who may not lead any more sends nothing."""

import pytest

from certs.api import Config
from gateway.client import Client, NotLeading


async def test_who_does_not_lead_any_more_sends_neither_applies_nor_deletions() -> None:
    client = Client(Config("http://127.0.0.1:1"))  # nobody listens there, and it is not opened
    client.may_write = lambda: False
    with pytest.raises(NotLeading):
        await client.write("/api/v1/namespaces/a/secrets/b", {}, manager="m", force=False)
    with pytest.raises(NotLeading):
        await client.delete("/api/v1/namespaces/a/secrets/b", "uid")
    assert client.writes == {"apply": 0, "delete": 0}
