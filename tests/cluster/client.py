"""The smallest client of an API server: a request, its status, its object and its warnings."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said. `warnings` are its Warning headers' texts."""

    status: int
    body: Any
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks for one user. Each request has a connection of its own, so threads may share a client."""

    url: str
    ca: Path
    token: str

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | list[Any] | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One request; raises OSError where nobody answers."""
        context = ssl.create_default_context(cafile=str(self.ca))
        server = http.client.HTTPSConnection(urlsplit(self.url).netloc, timeout=40, context=context)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        try:
            server.request(method, path, None if body is None else json.dumps(body), headers)
            answer = server.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {error}") from error
        finally:
            server.close()
        is_json = answer.headers.get_content_type() == "application/json"
        warnings = tuple(line.split('"', 1)[-1][:-1] for line in answer.headers.get_all("Warning", []))
        return Answer(answer.status, json.loads(text) if is_json else text.decode(), warnings)
