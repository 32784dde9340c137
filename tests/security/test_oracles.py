"""What answers give away: a session of another's and one that is nowhere look the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.gateway.dialects.test_rights import HTTP as OF_DIALECTS
from tests.gateway.test_admission import HTTP, SOCKET
from tests.security.attacks import runs
from tests.security.scene import Attacker, Reply, Scene

ROLES: list[tuple[str, dict[str, Any]]] = [
    ("user:mal", {}),
    ("user:mal", {"sessions": {"*": ["*"]}}),
    ("agent:mal", {}),
    ("operator:mal", {}),
]
GRANTS: dict[str, list[str]] = {"mine": ["*"], "vaul": ["*"], "hidden-*": ["*"], "HIDDEN": ["*"], "nowher": ["*"]}


def leveled(text: str, name: str) -> str:
    """Leave out what differs for good reasons: the name, times, places, revisions, ids that were made up."""
    text = text.replace(name, "NAME")
    text = re.sub(r"\d{12,}", "N", text)
    text = re.sub(r"\b([a-z]+-)?[0-9A-Za-z]{20}\b", "ID", text)
    return re.sub(r'("revision":\s?)\d+', r"\1N", text)


def level(reply: Reply, name: str) -> tuple[int, str, str]:
    headers = {key: value for key, value in reply.headers.items() if key != "Content-Length"}
    return reply.status, leveled(reply.body.decode(), name), leveled(repr(headers), name)


@runs("E1")
@pytest.mark.parametrize(("who", "claims"), ROLES, ids=["user", "narrow", "agent", "operator"])
async def test_over_http_a_session_of_another_tenant_is_like_one_that_is_nowhere(
    scene: Scene, who: str, claims: dict[str, Any]
) -> None:
    mal = scene.attacker(who, **claims)
    for method, path, body, _ in HTTP:
        answers = []
        for name in ("vault", "nonam"):
            sent = json.loads(json.dumps(body).replace('"s1"', f'"{name}"'))
            until = b"\n\n" if "live=sse" in path else None
            answers.append(level(await mal.http(method, path.replace("{session}", name), sent, until=until), name))
        assert answers[0] == answers[1], (method, path)
        # Until he makes one himself there is nothing to read.
        if path == "/v1/sessions/{session}" and method == "GET":
            assert answers[0][0] == 200
            assert '"participants":[' in answers[0][1]
            assert scene.theirs.tenant not in answers[0][1]


@runs("E1")
async def test_what_reads_another_tenants_session_finds_none(scene: Scene) -> None:
    for who, claims in ROLES:
        mal = scene.attacker(who, **claims)
        for method, path, _, needs in HTTP:
            if method == "GET" and needs == ["read"]:
                reply = await mal.http(method, path.replace("{session}", "vault"))
                assert (reply.status, reply.code) == (404, "session_not_found"), (who, path)


@runs("E1")
@pytest.mark.parametrize(("who", "claims"), ROLES, ids=["user", "narrow", "agent", "operator"])
async def test_on_the_socket_a_session_of_another_tenant_is_like_one_that_is_nowhere(
    scene: Scene, who: str, claims: dict[str, Any]
) -> None:
    mal = scene.attacker(who, **claims)
    async with mal.socket() as client:
        for op, fields, _ in SOCKET:
            if op == "signal":
                continue  # has no answer
            answers = []
            for name in ("vault", "nonam"):
                answer = await client.ask(op, session=name, **fields)
                del answer["id"]
                answer.pop("sub", None)
                answers.append(leveled(json.dumps(answer), name))
            assert answers[0] == answers[1], op


@runs("E2")
@pytest.mark.parametrize("who", ["user:mal", "agent:mal", "operator:mal"])
async def test_what_a_token_does_not_grant_is_refused_alike_whether_it_is_there_or_not(scene: Scene, who: str) -> None:
    mal = scene.attacker(who, sessions=GRANTS)
    for method, path, body, _ in HTTP:
        answers = []
        for name in ("hidden", "nowher", "nowhere"):
            sent = json.loads(json.dumps(body).replace('"s1"', f'"{name}"'))
            answers.append(level(await mal.http(method, path.replace("{session}", name), sent, until=b"\n\n"), name))
        assert answers[0] == answers[2], (method, path)
        assert answers[0][0] == 403, (method, path)
        assert '"code":"forbidden"' in answers[0][1], (method, path)
    async with mal.socket() as client:
        for op, fields, _ in SOCKET:
            told = []
            for name in ("hidden", "nowhere"):
                answer = await client.ask(op, session=name, **fields)
                assert (answer["op"], answer["code"]) == ("error", "forbidden"), op
                del answer["id"]
                told.append(leveled(json.dumps(answer), name))
            assert told[0] == told[1], op


@runs("E2")
async def test_a_user_who_does_not_take_part_is_refused_on_every_path(scene: Scene) -> None:
    mal = scene.attacker()
    for method, path, body, _ in HTTP:
        sent = json.loads(json.dumps(body).replace('"s1"', '"hidden"'))
        reply = await mal.http(method, path.replace("{session}", "hidden"), sent, until=b"\n\n")
        assert (reply.status, reply.code) == (403, "forbidden"), (method, path)
    async with mal.socket() as client:
        for op, fields, _ in SOCKET:
            answer = await client.ask(op, session="hidden", **fields)
            assert (answer["op"], answer["code"]) == ("error", "forbidden"), op


async def _of_dialects(mal: Attacker, name: str) -> list[tuple[str, tuple[int, str, str]]]:
    """Ask what front-end frameworks ask, of a session."""
    answers = []
    for method, path, body, _ in OF_DIALECTS:
        sent = json.loads(json.dumps(body).replace('"s1"', f'"{name}"'))
        reply = await mal.http(method, path.replace("/s1/", f"/{name}/"), sent, until=b"\n\n")
        answers.append((f"{method} {path} {json.dumps(body)}", level(reply, name)))
    return answers


@runs("E1")
@pytest.mark.parametrize(("who", "claims"), ROLES, ids=["user", "narrow", "agent", "operator"])
async def test_to_a_frameworks_client_a_session_of_another_tenant_is_like_one_that_is_nowhere(
    scene: Scene, who: str, claims: dict[str, Any]
) -> None:
    mal = scene.attacker(who, **claims)
    assert await _of_dialects(mal, "vault") == await _of_dialects(mal, "nonam")


@runs("E2")
@pytest.mark.parametrize("who", ["user:mal", "agent:mal", "operator:mal"])
async def test_to_a_frameworks_client_what_is_not_granted_is_refused_alike(scene: Scene, who: str) -> None:
    mal = scene.attacker(who, sessions=GRANTS)
    there, nowhere = await _of_dialects(mal, "hidden"), await _of_dialects(mal, "nowhere")
    assert there == nowhere
    assert {status for _, (status, _, _) in there} == {403}


@runs("E2")
async def test_a_frameworks_client_of_one_who_does_not_take_part_is_refused(scene: Scene) -> None:
    answers = await _of_dialects(scene.attacker(), "hidden")
    assert {(status, '"code":"forbidden"' in body) for _, (status, body, _) in answers} == {(403, True)}


@runs("E3")
async def test_lists_metrics_and_the_log_name_nobody_elses_sessions(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    top = scene.theirs.segment // 1000
    cursors = [f"{top + 10:016d}_vault", f"{10**15:016d}_z", "vault", "%3E", "*", f"{scene.theirs.tenant}.vault"]
    for claims in ({}, {"sessions": {"mine": ["*"], "hidden-*": ["*"]}}):
        mal = scene.attacker(**claims)
        for query in ("", "?limit=1000", *(f"?cursor={cursor}" for cursor in cursors)):
            page = (await mal.http("GET", f"/v1/sessions{query}")).json
            assert page.get("sessions", []) == [], query
            assert page.get("code", "invalid_request") == "invalid_request"
        metrics = (await mal.http("GET", "/metrics")).body.decode()
        assert "gateway_connections" in metrics
        for text in ("vault", "hidden", scene.theirs.tenant, scene.own, "vera", scene.theirs.word):
            assert text not in metrics, text
        await mal.http("GET", "/v1/sessions/hidden/events")
    # Who has the whole tenant sees all of it, and nothing beyond.
    eve = Attacker(scene.house, scene.token("operator:eve"))
    assert [one["session"] for one in (await eve.http("GET", "/v1/sessions")).json["sessions"]] == ["hidden"]
    for cursor in cursors:
        await eve.http("GET", f"/v1/sessions?cursor={cursor}")
    assert scene.theirs.word.encode() not in b"".join(eve.received)
    logged = "".join(capsys.readouterr())
    assert not any(victim.word in logged for victim in scene.victims.values())
