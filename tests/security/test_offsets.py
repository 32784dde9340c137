"""The victim's offsets, segments and event ids, brought to the attacker's own sessions; and forks."""

from __future__ import annotations

from typing import Any

from session_fabric.words.names import new_id

from tests.gateway.sockets import user_message
from tests.security.attacks import runs
from tests.security.scene import Scene
from tests.support.sessions import stored


@runs("O1")
async def test_an_offset_of_another_session_is_foreign_on_every_path(scene: Scene) -> None:
    mal = scene.attacker()
    await mal.http("POST", "/v1/sessions", {"session": "mine"})
    one = "/v1/sessions/mine"
    for victim in scene.victims.values():
        for offset in (victim.offset, f"{victim.segment:016d}_{10**16 - 1}", f"{victim.segment:016d}_{1:016d}"):
            event = {"id": new_id(), "body": {"type": "app.x"}, "since": offset}
            asks: list[tuple[str, str, object, dict[str, str]]] = [
                ("GET", f"/events?after={offset}", None, {}),
                ("GET", f"/events?before={offset}", None, {}),
                ("GET", f"/events?after={offset}&live=sse", None, {}),
                ("GET", "/events?live=sse", None, {"Last_Event_ID": offset}),
                ("GET", f"/events?after={offset}&live=long-poll&timeout_ms=0", None, {}),
                ("GET", f"/messages?before={offset}", None, {}),
                ("POST", "/events", event, {}),
                ("POST", "/fork", {"at": offset}, {}),
                ("PUT", "/cursor", {"offset": offset}, {}),
            ]
            for method, path, body, headers in asks:
                reply = await mal.http(method, one + path, body, until=b"\n\n", **headers)
                assert (reply.status, reply.code) == (409, "offset_foreign"), (method, path, reply.body[:200])
            async with mal.socket() as client:
                frames: list[tuple[str, dict[str, Any]]] = [
                    ("open", {"after": offset}),
                    ("append", {"event": {"body": {"type": "app.x"}}, "since": offset}),
                    ("cursor", {"offset": offset}),
                ]
                for op, fields in frames:
                    assert (await client.ask(op, session="mine", **fields))["code"] == "offset_foreign", op
    events = (await mal.http("GET", f"{one}/events")).json["events"]
    assert [event["type"] for event in events] == ["session.created"]


@runs("O2")
async def test_what_is_no_offset_is_refused(scene: Scene) -> None:
    mal = scene.attacker()
    await mal.http("POST", "/v1/sessions", {"session": "mine"})
    arabic = scene.theirs.offset.translate({48 + n: 0x660 + n for n in range(10)})
    for offset in ("*", ">", "-1", "1_1", scene.theirs.offset + "0", scene.theirs.offset.replace("_", "."), arabic):
        async with mal.socket() as client:
            for op, fields in (("open", {"after": offset}), ("cursor", {"offset": offset})):
                assert (await client.ask(op, session="mine", **fields))["code"] == "invalid_offset", (op, offset)
        assert (await mal.http("POST", "/v1/sessions/mine/fork", {"at": offset})).code == "invalid_offset"


@runs("F1", "F2")
async def test_nobody_forks_what_he_may_not_read_or_over_what_is_there(scene: Scene) -> None:
    for who, claims in (
        ("user:mal", {}),
        ("user:mal", {"sessions": {"mine*": ["*"]}}),
        ("agent:mal", {"sessions": {"mine*": ["*"]}}),
    ):
        mal = scene.attacker(who, **claims)
        name = f"mine-{new_id()}"
        await mal.http("POST", "/v1/sessions", {"session": name})
        own = (await mal.http("GET", f"/v1/sessions/{name}")).json["head"]
        for victim, at in (("hidden", scene.hidden.offset), ("hidden", own)):
            reply = await mal.http("POST", f"/v1/sessions/{victim}/fork", {"at": at, "session": f"{name}-f"})
            assert (reply.status, reply.code) == (403, "forbidden")
        reply = await mal.http("POST", "/v1/sessions/vault/fork", {"at": scene.theirs.offset, "session": f"{name}-f"})
        assert (reply.status, reply.code) == ((403, "forbidden") if claims else (404, "session_not_found"))
        reply = await mal.http("POST", f"/v1/sessions/{name}/fork", {"at": own, "session": "hidden"})
        assert (reply.status, reply.code) == ((403, "forbidden") if claims else (409, "session_exists"))
        # Of the other tenant's name he has his own.
        reply = await mal.http("POST", f"/v1/sessions/{name}/fork", {"at": own, "session": f"{name}-vault"})
        assert (reply.status, reply.json["source"]) == (201, name)


@runs("F1")
async def test_an_operator_forks_nothing_of_another_tenant(scene: Scene) -> None:
    mal = scene.attacker("operator:mal")
    reply = await mal.http("POST", "/v1/sessions/vault/fork", {"at": scene.theirs.offset})
    assert (reply.status, reply.code) == (404, "session_not_found")
    await mal.http("POST", "/v1/sessions", {"session": "vault"})
    reply = await mal.http("POST", "/v1/sessions/vault/fork", {"at": scene.theirs.offset})
    assert (reply.status, reply.code) == (409, "offset_foreign")


@runs("I1")
async def test_the_same_event_id_in_another_tenant_or_session_swallows_nothing(scene: Scene) -> None:
    mal = scene.attacker()
    for session in ("vault", "mine"):
        for id in ("e-victim", "e-big", "e-whisper"):
            body = {"id": id, "body": {"type": "app.theft"}}
            reply = await mal.http("POST", f"/v1/sessions/{session}/events", body)
            assert (reply.status, reply.json["duplicate"]) == (201, False)
    # He is first in his own, and the victim comes after him: in a session of the victim's beside the one that is kept.
    late = scene.session("late", "user:vera", scene.theirs.tenant)
    await late.create()
    await mal.http("POST", "/v1/sessions/late/events", {"id": "e-late", "body": user_message("theft")})
    kept = await late.append(user_message("theft"), id="e-late")
    assert not kept.duplicate
    assert [event.id for event in await stored(late)][1:] == ["e-late"]
