"""Nobody holds, redacts, exports or shortens what is not his to govern."""

from __future__ import annotations

from typing import Any

from tests.gateway.sockets import user_message
from tests.security.attacks import runs
from tests.security.scene import Scene
from tests.support.sessions import stored

ASKS: list[tuple[str, str, Any]] = [
    ("PUT", "holds/case", {"reason": "x"}),
    ("DELETE", "holds/case", None),
    ("POST", "redactions", {"message": "m1", "reason": "x"}),
    ("POST", "redactions", {"target": "e-big", "reason": "x"}),
    ("PUT", "retention", {"retention": {"max_age_s": 60}}),
    ("GET", "export", None),
]


@runs("V1")
async def test_nobody_governs_what_he_was_not_granted(scene: Scene) -> None:
    every = ["hold", "redact", "erase", "export"]
    for who, sessions, codes in (
        ("operator:mal", None, {"forbidden"}),  # by its role alone
        ("operator:mal", {"hidde": every, "hidden-*": every, "vaul": ["*"]}, {"forbidden"}),
        ("service:mal", {"*": ["read", "append", "policy", "supervise"]}, {"forbidden"}),
        ("operator:mal", {"vault": ["*"]}, {"forbidden", "session_not_found"}),
        ("user:mal", {"vault": ["*"]}, {"forbidden", "session_not_found"}),
    ):
        mal = scene.attacker(who, **({} if sessions is None else {"sessions": sessions}))
        for victim in ("hidden", "vault"):
            for method, path, body in ASKS:
                reply = await mal.http(method, f"/v1/sessions/{victim}/{path}", body)
                assert reply.code in codes, (who, victim, method, path, reply.body)
    assert await scene.hidden.agent.retention() == await scene.theirs.agent.retention()


@runs("V2")
async def test_nobody_redacts_through_a_fork_what_he_may_only_read(scene: Scene) -> None:
    shared = scene.session("shared", "user:vera")
    said = await shared.append(user_message("What is said is said.", "m-shared"))
    mal = scene.attacker("operator:mal", sessions={"shared": ["read"], "mine*": ["*"]})
    reply = await mal.http("POST", "/v1/sessions/shared/fork", {"at": str(said.offset), "session": "mine-f"})
    assert reply.status == 201
    for body in ({"message": "m-shared", "reason": "x"}, {"target": str(said.offset), "reason": "x"}):
        reply = await mal.http("POST", "/v1/sessions/mine-f/redactions", body)
        assert (reply.status, reply.code) == (400, "invalid_request")
    assert (await mal.http("POST", "/v1/sessions/shared/redactions", body)).code == "forbidden"
    assert [event.body["message"]["content"] for event in await stored(shared) if event.type == "message.user"] == [
        "What is said is said."
    ]
    messages = (await mal.http("GET", "/v1/sessions/mine-f/messages")).json["messages"]
    assert [(one["content"], one["redacted"]) for one in messages] == [("What is said is said.", False)]
