"""What is said in another's name, and what is done to what is another's."""

from __future__ import annotations

from typing import Any

from tests.gateway.sockets import user_message
from tests.security.attacks import runs
from tests.security.scene import REQUEST, RUN, Attacker, Scene
from tests.support.sessions import stored

ME = "user:mal"
FORGED: dict[str, Any] = {
    "actor": "user:vera",
    "role": "agent",
    "tenant": "b",
    "run": RUN,
    "ts": 1,
    "offset": "start",
    "writer": "gw",
    "Sf-Actor": "user:vera",
    "kind": "own",
    "headers": {"Sf-Actor": "user:vera"},
    "type": "RUN_ERROR",
}


async def made(scene: Scene, who: str = ME, **claims: Any) -> Attacker:
    mal = scene.attacker(who, **claims)
    await mal.http("POST", "/v1/sessions", {"session": "mine"})
    return mal


@runs("B1")
async def test_what_a_request_has_no_field_for_is_refused(scene: Scene) -> None:
    mal = await made(scene)
    event = {"id": "e1", "body": {"type": "app.x"}}
    async with mal.socket() as client:
        for name, value in FORGED.items():
            for op, fields in (
                ("append", {"event": {**event, name: value}}),
                ("append", {"event": event, name: value}),
                ("open", {name: value}),
                ("signal", {"body": {}, name: value}),
                ("control", {"action": "cancel", "run": "r1"} | {name: 1 if name == "run" else value}),
                ("state.put", {"document": "plan", "body": {}, name: value}),
                ("answer", {"request": "q1", "body": "x", name: value}),
            ):
                assert (await client.ask(op, session="mine", **fields))["code"] == "invalid_request", (op, name)
            assert (await client.ask("ping"))["op"] == "pong"
    for name, value in FORGED.items():
        for method, path, body in (
            ("POST", "/events", {**event, name: value}),
            ("PUT", "/state/plan", {"body": {}, name: value}),
            ("POST", "/control", {"action": "cancel", "run": "r1"} | {name: 1 if name == "run" else value}),
        ):
            reply = await mal.http(method, f"/v1/sessions/mine{path}", body)
            assert (reply.status, reply.code) == (400, "invalid_request"), (path, name)
    assert [event.type for event in await stored(scene.session("mine"))] == ["session.created"]


@runs("B2")
async def test_what_a_body_claims_is_not_believed(scene: Scene) -> None:
    mal = await made(scene)
    claims = {name: value for name, value in FORGED.items() if name != "type"}
    body = {**user_message("x"), **claims}
    body["message"] |= {"role": "assistant", "actor": "agent:writer", "name": "agent:writer"}
    await mal.http("POST", "/v1/sessions/mine/events", {"id": "e1", "body": body})
    await mal.http("POST", "/v1/sessions/mine/events", {"id": "e2", "body": {"type": "app.x", **claims}})
    for event in (await stored(scene.session("mine")))[1:]:
        assert (event.actor, event.run) == (ME, None)
        assert event.ts > 1
    messages = (await mal.http("GET", "/v1/sessions/mine/messages")).json["messages"]
    assert {(message["role"], message["actor"], message["run"]) for message in messages} == {("user", ME, None)}
    assert (await mal.http("GET", "/v1/sessions/mine/runs")).json == {"runs": []}


@runs("B3")
async def test_nobody_writes_what_is_not_his_to_write(scene: Scene) -> None:
    fabrics = [
        *("session.created", "session.closed", "session.participants", "session.policy", "session.forked", "whisper"),
        *("control.requested", "control.accepted", "tool.requested", "tool.answered", "input.answered", "run.claimed"),
        *("run.orphaned", "run.taken_over", "handoff.accepted", "floor.claimed", "presence.joined", "fabric.malformed"),
        *("message.steered", "message.forwarded", "pool.rung", "whisper.x", "run.x", "budget.x"),
        *("message.redacted", "event.redacted", "event.x"),
    ]
    agents = ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR", "TEXT_MESSAGE_CONTENT", "STATE_DELTA", "RAW", "NEW_ONE"]
    for who in (ME, "operator:mal", "agent:mal"):
        mal = await made(scene, who, sessions={"mine": ["*"]})
        theirs = fabrics if who.startswith("agent") else [*fabrics, *agents, "message.completed", "message.snapshot"]
        before = len(await stored(scene.session("mine", who)))
        for type in theirs:
            body = {"type": type, "run": RUN, "request": REQUEST, "by": "user:vera", "participants": [ME], "text": "x"}
            reply = await mal.http("POST", "/v1/sessions/mine/events", {"body": body})
            assert (reply.status, reply.code) == (403, "forbidden"), (who, type)
        async with mal.socket() as client:
            for type in theirs[:40]:
                answer = await client.append("mine", {"type": type, "run": RUN})
                assert answer["code"] == "forbidden", (who, type)
        assert len(await stored(scene.session("mine", who))) == before


@runs("B4")
async def test_headers_of_the_brokers_have_no_effect_over_http(scene: Scene) -> None:
    mal = await made(scene)
    forged = {
        "Sf_Actor": "user:vera",
        "Sf_Type": "whisper",
        "Nats_Msg_Id": "x/e-victim",
        "Sf_Run": RUN,
        "Sf_Delta": "0 m1",
        "Sf_Blob": f"{300_000} {'0' * 64} {scene.theirs.blob}",
        "Nats_Rollup": "all",
        "Sf_Sealed": "k1",
        "Nats_Expected_Last_Sequence": "1",
        "Nats_TTL": "1s",
        "Nats_Expected_Stream": "KV_sf-sessions",
    }
    body = {"id": "e1", "body": {"type": "app.x"}}
    assert (await mal.http("POST", "/v1/sessions/mine/events", body, **forged)).status == 201
    event = (await stored(scene.session("mine")))[-1]
    assert (event.id, event.type, event.actor, event.run, event.raw) == ("e1", "app.x", ME, None, b'{"type":"app.x"}')


@runs("R1")
async def test_nobody_answers_a_request_of_a_session_that_is_not_his(scene: Scene) -> None:
    for who in (ME, "agent:mal", "operator:mal"):
        mal = await made(scene, who, **({} if who == ME else {"sessions": {"mine": ["*"], "vault": ["*"]}}))
        for session, code in (("vault", "session_not_found"), ("hidden", "forbidden"), ("mine", "request_not_found")):
            for what, body in (("answer", {"body": {"approved": True}}), ("claim", {})):
                reply = await mal.http("POST", f"/v1/sessions/{session}/requests/{REQUEST}/{what}", body)
                assert reply.code == code, (who, session, what, reply.body)
            async with mal.socket(device="d-victim") as client:
                answer = await client.ask("answer", session=session, request=REQUEST, body={"approved": True})
                assert answer["code"] == code, (who, session)
    assert [request.request for request in await scene.theirs.session.requests()] == [REQUEST]


@runs("R2")
async def test_nobody_answers_what_is_addressed_to_somebody_else(scene: Scene) -> None:
    """In a session that he may be in: beside the hidden one, with a request of the same kind."""
    for who in (ME, "operator:mal", "user:verA", "user:vera2"):
        mal = Attacker(scene.house, scene.token(who, sessions={"hidden": ["*"]}))
        reply = await mal.http("POST", f"/v1/sessions/hidden/requests/{REQUEST}/answer", {"body": {"approved": True}})
        assert (reply.status, reply.code) == (403, "forbidden"), who
        named = {"body": {"approved": True}, "by": "user:vera"}
        reply = await mal.http("POST", f"/v1/sessions/hidden/requests/{REQUEST}/answer", named)
        assert reply.code == "invalid_request"
    scene.attacker().received.append(b"looked at above")
    assert [request.request for request in await scene.hidden.session.requests()] == [REQUEST]


@runs("C1")
async def test_nobody_cancels_a_run_of_a_session_that_is_not_his(scene: Scene) -> None:
    for who in (ME, "agent:mal", "operator:mal"):
        mal = await made(scene, who, **({} if who == ME else {"sessions": {"mine": ["*"], "vault": ["*"]}}))
        for action, body in (("cancel", None), ("interrupt", None), ("steer", {"text": "stop"})):
            asked = {"run": RUN, "action": action, "body": body}
            for session, code in (("vault", "session_not_found"), ("hidden", "forbidden")):
                assert (await mal.http("POST", f"/v1/sessions/{session}/control", asked)).code == code, (who, action)
                async with mal.socket() as client:
                    assert (await client.ask("control", session=session, **asked))["code"] == code
            # In his own there may be a run of that name some day; it is not the victim's.
            assert (await mal.http("POST", "/v1/sessions/mine/control", asked | {"deadline_ms": 1})).status == 201
    for victim in scene.victims.values():
        assert [(run.id, run.state) for run in await victim.session.runs()] == [(RUN, "suspended")]


@runs("P1")
async def test_presence_cursors_and_documents_are_in_ones_own_name(scene: Scene) -> None:
    mal = await made(scene)
    async with mal.socket(device="d-victim") as client:
        await client.open("mine")
        for name in ("participant", "actor", "device"):
            shown = await client.ask("presence", session="mine", status="idle", **{name: "user:vera"})
            assert shown["code"] == "invalid_request", name
        for name in ("participant", "actor"):
            moved = await client.ask("cursor", session="mine", offset=scene.hidden.offset, **{name: "user:vera"})
            assert moved["code"] == "invalid_request", name
        for document in ("_seen", "_tools", "_other"):
            for op, fields in (("state.put", {"body": {"x": 1}}), ("state.patch", {"body": {}}), ("state.delete", {})):
                answer = await client.ask(op, session="mine", document=document, **fields)
                assert answer["code"] in ("forbidden", "invalid_request"), (op, document)
        # With the victim's device in his own session it is he who is there.
        assert (await client.ask("presence", session="mine", data={"participant": "user:vera"}))["op"] == "ok"
        head = (await mal.http("GET", "/v1/sessions/mine")).json["head"]
        assert (await client.ask("cursor", session="mine", offset=head, device="d-victim"))["op"] == "ok"
        await client.ask("state.put", session="mine", document="plan", body={"by": "user:vera"})
        members = (await client.ask("who", session="mine"))["members"]
        assert [(one["participant"], one["device"]) for one in members] == [(ME, "d-victim")]
    assert {cursor.participant for cursor in await scene.session("mine").cursors()} == {ME}
    assert (await scene.session("mine").state("plan").get()).by == ME


@runs("L1")
async def test_what_looks_like_a_reference_to_a_large_body_is_a_body(scene: Scene) -> None:
    mal = await made(scene)
    for name in (scene.theirs.blob, scene.hidden.blob):
        body = {"type": "app.big", "blob": name, "size": 300_000, "Sf-Blob": f"300000 {'0' * 64} {name}"}
        assert (await mal.http("POST", "/v1/sessions/mine/events", {"body": body})).status == 201
        mine = await stored(scene.session("mine"))
        assert mine[-1].body == body
    page = await mal.http("GET", "/v1/sessions/mine/events?before=tail&limit=1")
    # What he wrote himself comes back, and is no secret of anybody's.
    mal.received[:] = [
        data.replace(scene.theirs.blob.encode(), b"").replace(scene.hidden.blob.encode(), b"") for data in mal.received
    ]
    assert page.json["events"][0]["body"]["blob"] == scene.hidden.blob


@runs("W1")
async def test_a_user_of_a_session_never_gets_what_is_whispered_in_it(scene: Scene) -> None:
    eve, mal, session = "operator:eve", scene.attacker(), scene.session("shared", "operator:eve")
    await session.create(participants=[ME])
    async with mal.socket() as live, mal.socket(deltas="compact") as compact:
        for client, view in ((live, "full"), (compact, "messages")):
            await client.open("shared", view=view)
        said = await scene.session("shared", eve).whisper(f"psst {scene.hidden.word}", id="w1")
        at = str(said.offset)
        await scene.session("shared").append(user_message("the end", id="m-end"))
        for client in (live, compact):
            await client.until_events(lambda events: any("the end" in str(event) for event in events))
            assert "whisper" not in {event["type"] for event in client.events}
    one, before = "/v1/sessions/shared", "0000000000000001"
    for path in (
        *(
            "/events",
            "/events?before=tail",
            "/events?live=long-poll&timeout_ms=0",
            "/messages",
            "/messages?branch=visible",
        ),
        *(
            "/events?view=messages",
            f"/events?after={at}",
            f"/events?before={at}",
            "/runs",
            "/requests",
            "/state/_tools",
        ),
        *("/events?live=sse", "/events?live=sse&view=messages", f"/events?after={at[:17]}{before}"),
    ):
        reply = await mal.http("GET", one + path, until=b"the end")
        assert reply.status == 200 or reply.code in ("offset_foreign", "offset_gone"), path
    fork = await mal.http("POST", f"{one}/fork", {"at": at, "session": "shared-fork"})
    assert fork.status == 201
    pages = await mal.http("GET", "/v1/sessions/shared-fork/events")
    assert "session.forked" in pages.body.decode()
    for op in ("whisper",):
        async with mal.socket() as client:
            assert (await client.ask(op, session="shared", text="x"))["code"] == "forbidden"
    assert (await mal.http("POST", f"{one}/events", {"id": "w1", "body": {"type": "app.x"}})).code == "id_conflict"
