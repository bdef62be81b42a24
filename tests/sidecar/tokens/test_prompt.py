"""What of a request the model reads."""

import orjson

from sidecar.endpoints import Endpoint
from sidecar.tokens.prompt import read_prompt


def test_anthropics_request_is_the_chat_that_its_server_makes_of_it() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    body = {
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": "weather", "description": "of a city", "input_schema": schema}],
    }
    chat = read_prompt(Endpoint.MESSAGES, orjson.dumps(body)).chat
    assert chat
    assert chat["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    function = {"name": "weather", "description": "of a city", "parameters": schema}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert read_prompt(Endpoint.CHAT_COMPLETIONS, orjson.dumps(body)).chat == body
