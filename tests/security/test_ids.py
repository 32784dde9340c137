"""Event ids of others: guessed before, taken after, made to collide."""

from __future__ import annotations

import pytest
from session_fabric.words.errors import IdConflict
from session_fabric.words.events import CONTROL_ACCEPTED

from tests.gateway.sockets import user_message
from tests.security.attacks import runs
from tests.security.scene import Scene
from tests.support.sessions import stored


@runs("I2")
async def test_an_event_that_somebody_else_has_said_is_not_ones_own(scene: Scene) -> None:
    mal = scene.attacker()
    await mal.http("POST", "/v1/sessions", {"session": "shared"})
    await mal.http("PUT", "/v1/sessions/shared/participants/user:vera")
    assert (
        await mal.http("POST", "/v1/sessions/shared/events", {"id": "e1", "body": user_message("I pay")})
    ).status == 201
    vera = scene.session("shared", "user:vera")
    for since in (None, (await vera.record()).segments[0].id):
        after = None if since is None else (await stored(vera))[0].offset
        with pytest.raises(IdConflict):
            await vera.append(user_message("I pay"), id="e1", since=after)
    again = await mal.http("POST", "/v1/sessions/shared/events", {"id": "e1", "body": user_message("I pay")})
    assert again.json["duplicate"]


@runs("I3")
async def test_no_id_that_is_taken_before_keeps_the_fabric_from_what_it_has_to_say(scene: Scene) -> None:
    mal = scene.attacker()
    await mal.http("POST", "/v1/sessions", {"session": "shared"})
    agent = scene.session("shared", "agent:writer")
    segment = (await agent.record()).segments[-1].id
    body = {"type": "app.x"}
    for id in ("k1.outcome", f"closed-{segment}", "run-1.settled"):
        assert (await mal.http("POST", "/v1/sessions/shared/events", {"id": id, "body": body})).status == 201
    async with agent.run("r1"):
        asked = await scene.session("shared", "operator:eve").control("cancel", run="r1", id="k1")
        outcome = await scene.session("shared", "operator:eve").outcome(asked)
        assert outcome.type == CONTROL_ACCEPTED
    closed = await scene.session("shared", "operator:eve").close()
    assert closed.state == "closed"
    await scene.session("shared", "operator:eve").close()
    assert [event.type for event in await stored(agent)].count("session.closed") == 1


@runs("M4")
async def test_a_user_who_makes_a_session_gets_what_he_asked_for(scene: Scene) -> None:
    mal = scene.attacker()
    asked = {"session": "mine", "labels": {"topic": "x"}, "participants": ["user:bob"]}
    reply = await mal.http("POST", "/v1/sessions", asked)
    assert (reply.status, reply.json["labels"]) == (201, {"topic": "x"})
    assert reply.json["participants"] == ["user:mal", "user:bob"]
    assert (await mal.http("POST", "/v1/sessions", asked)).status == 200
    assert (await mal.http("POST", "/v1/sessions", {"session": "hidden"})).code == "forbidden"
