"""An agent that writes schemas to keep a gateway from serving others: stored past the SDK, answered by others."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from session_fabric.words.names import new_id

from tests.security.attacks import runs
from tests.security.scene import Scene

SLOW = "a" * 50_000 + "!"
_DOUBLED = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}
EVIL: dict[str, tuple[dict[str, Any], Any]] = {
    "a pattern that backtracks": ({"pattern": "^(a+)+$"}, SLOW),
    "a pattern that looks around": ({"pattern": "^(?=(a+)+$)"}, SLOW),
    "a name that backtracks": ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {SLOW: 1}),
    "what unfolds": ({"$ref": "#/$defs/d0", "$defs": {**_DOUBLED, "d60": {"type": "string"}}}, "x"),
    "what refers to itself": ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, [[[1]]]),
    "many parts": ({"properties": {f"p{n}": {"type": "string", "minLength": 1} for n in range(3000)}}, {}),
    "each against each": (
        {"uniqueItems": True, "items": {"anyOf": [{"const": n} for n in range(400)]}},
        [[0]] * 20_000,
    ),
}
"""Each with an answer: with some libraries, and some of these, one look takes minutes."""


async def ask(session: Any, run: str, schema: dict[str, Any]) -> str:
    """Store a question as no SDK would."""
    parts, id = session._parts, new_id()
    body = {"type": "input.requested", "request": id, "run": run, "kind": "form", "title": "?", "schema": schema}
    await parts.writer.append((await parts.open()).stretch, body, id=id, since=None, own=True, run=run)
    return id


@runs("S1")
async def test_no_schema_keeps_a_gateway_from_serving(scene: Scene) -> None:
    """Where one took for ever, the test does not end."""
    agent, ada = scene.session("forms", "agent:mal"), scene.attacker("user:mal", sessions={"forms": ["*"]})
    async with agent.run("r1"), ada.socket() as client:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.0)
            fetched = {"$defs": {"x": {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/x"}}, "type": "null"}
            for what, (schema, body) in {**EVIL, "a server": (fetched, "x")}.items():
                request = await ask(agent, "r1", schema)
                answer = await client.ask("answer", session="forms", request=request, body=body)
                assert answer.get("code") == "invalid_request", (what, answer)
            with pytest.raises(BlockingIOError):
                server.accept()
        request = await ask(agent, "r1", {"type": "string", "pattern": "^a+$"})
        assert (await client.ask("answer", session="forms", request=request, body="aaa"))["op"] != "error"
