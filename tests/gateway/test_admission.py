"""Every operation, on every path, for who was granted it and for who was not: no cell is missing."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from session_fabric import Fabric
from session_fabric.rules.grants import OPERATIONS, of_role
from session_fabric_gateway import openapi, operations
from session_fabric_gateway.auth import Authenticator, Grant
from session_fabric_gateway.capabilities.registry import CAPABILITIES
from session_fabric_gateway.dialects.ag_ui.described import described as of_ag_ui
from session_fabric_gateway.dialects.ai_sdk.described import described as of_ai_sdk
from session_fabric_gateway.durable.described import described

from tests.gateway.conftest import Running
from tests.gateway.sockets import Client, greeted, user_message

ROLES = ["user", "agent", "operator", "supervisor", "service"]
EVENT = {"body": user_message("hello")}
# What each operation of the socket needs: its fields, and the operations of which each one alone is not enough.
SOCKET: list[tuple[str, dict[str, Any], list[str]]] = [
    ("open", {}, ["read", "create"]),
    ("open", {"presence": {}}, ["read", "create", "presence"]),
    ("append", {"event": EVENT}, ["append", "create"]),
    *(("control", {"run": "r1", "action": a, **more}, [f"control:{a}"]) for a, more in (
        ("cancel", {}),
        ("interrupt", {}),
        ("steer", {"body": {"text": "x"}}),
        ("redirect", {"body": {"message": EVENT["body"]["message"]}}),
    )),
    ("who", {}, ["read"]),
    ("signal", {"body": {}}, ["signal"]),
    ("presence", {"status": "idle"}, ["presence"]),
    ("requests", {}, ["read"]),
    ("claim", {"request": "q1"}, ["answer"]),
    ("answer", {"request": "q1", "body": "x"}, ["answer"]),
    ("policy", {"policy": {}}, ["policy"]),
    ("runs", {}, ["read"]),
    ("whisper", {"text": "psst"}, ["supervise"]),
    ("floor", {}, ["read"]),
    ("floor.take", {}, ["handoff"]),
    ("floor.return", {}, ["handoff"]),
    ("handoff.offer", {"to": "role:operator"}, ["handoff"]),
    ("handoff.accept", {"request": "q1"}, ["handoff"]),
    ("handoff.decline", {"request": "q1"}, ["handoff"]),
    ("say", {"message": {"id": "m1", "content": "x"}}, ["handoff"]),
    ("participant.add", {"participant": "user:bob"}, ["invite"]),
    ("participant.remove", {"participant": "user:bob"}, ["invite"]),
    ("session.close", {}, ["policy"]),
    ("cursor", {"offset": "0000000000000001_0000000000000001"}, ["cursor"]),
    ("retention", {}, ["read"]),
    ("retention.set", {"retention": {"max_age_s": 90}}, ["erase"]),
    ("hold", {"hold": "case", "reason": "x"}, ["hold"]),
    ("release", {"hold": "case"}, ["hold"]),
    ("redact", {"message": "m1", "reason": "x"}, ["redact"]),
    ("state.get", {"document": "plan"}, ["read"]),
    ("state.list", {}, ["read"]),
    ("state.history", {"document": "plan"}, ["read"]),
    ("state.watch", {}, ["read", "create"]),
    ("state.unwatch", {}, ["read"]),
    ("state.put", {"document": "plan", "body": {}}, ["state:plan", "create"]),
    ("state.patch", {"document": "plan", "body": {}}, ["state:plan", "create"]),
    ("state.delete", {"document": "plan"}, ["state:plan"]),
]  # fmt: skip
# What ask for nothing in a session.
OF_THE_CONNECTION = {"hello", "close", "ping", "refresh"}

ONE = "/v1/sessions/{session}"
HTTP: list[tuple[str, str, dict[str, Any] | None, list[str]]] = [
    ("POST", "/v1/sessions", {"session": "s1"}, ["create"]),
    ("GET", ONE, None, ["read"]),
    ("DELETE", ONE, None, ["erase"]),
    ("POST", f"{ONE}/events", {"body": EVENT["body"]}, ["append", "create"]),
    ("GET", f"{ONE}/events", None, ["read"]),
    ("GET", f"{ONE}/events?before=tail", None, ["read"]),
    ("GET", f"{ONE}/events?live=sse", None, ["read"]),
    ("GET", f"{ONE}/events?live=long-poll&timeout_ms=0", None, ["read"]),
    ("POST", f"{ONE}/control", {"run": "r1", "action": "cancel"}, ["control:cancel"]),
    ("POST", f"{ONE}/control", {"run": "r1", "action": "steer", "body": {"text": "x"}}, ["control:steer"]),
    ("POST", f"{ONE}/fork", {"at": "0000000000000001_0000000000000001"}, ["read", "create"]),
    ("GET", f"{ONE}/messages", None, ["read"]),
    ("GET", f"{ONE}/presence", None, ["read"]),
    ("GET", f"{ONE}/requests", None, ["read"]),
    ("POST", f"{ONE}/requests/q1/claim", {}, ["answer"]),
    ("POST", f"{ONE}/requests/q1/answer", {"body": "x"}, ["answer"]),
    ("PUT", f"{ONE}/cursor", {"offset": "0000000000000001_0000000000000001"}, ["cursor"]),
    ("GET", f"{ONE}/state", None, ["read"]),
    ("GET", f"{ONE}/state/plan", None, ["read"]),
    ("PUT", f"{ONE}/state/plan", {"body": {}}, ["state:plan", "create"]),
    ("PATCH", f"{ONE}/state/plan", {"body": {}}, ["state:plan", "create"]),
    ("DELETE", f"{ONE}/state/plan", None, ["state:plan"]),
    ("GET", f"{ONE}/state/plan/history", None, ["read"]),
    ("PUT", f"{ONE}/policy", {"policy": {}}, ["policy"]),
    ("GET", f"{ONE}/runs", None, ["read"]),
    ("POST", f"{ONE}/whispers", {"text": "psst"}, ["supervise"]),
    ("PUT", f"{ONE}/participants/user:bob", None, ["invite"]),
    ("DELETE", f"{ONE}/participants/user:bob", None, ["invite"]),
    ("POST", f"{ONE}/close", None, ["policy"]),
    ("GET", f"{ONE}/retention", None, ["read"]),
    ("PUT", f"{ONE}/retention", {"retention": {"max_age_s": 90}}, ["erase"]),
    ("PUT", f"{ONE}/holds/case", {"reason": "x"}, ["hold"]),
    ("DELETE", f"{ONE}/holds/case", None, ["hold"]),
    ("POST", f"{ONE}/redactions", {"message": "m1", "reason": "x"}, ["redact"]),
    ("GET", f"{ONE}/export", None, ["export"]),
    ("GET", f"{ONE}/floor", None, ["read"]),
    ("POST", f"{ONE}/handoffs", {"to": "role:operator"}, ["handoff"]),
    ("POST", f"{ONE}/handoffs/q1/accept", {}, ["handoff"]),
    ("POST", f"{ONE}/handoffs/q1/decline", {}, ["handoff"]),
    ("POST", f"{ONE}/floor/take", {}, ["handoff"]),
    ("POST", f"{ONE}/floor/return", {}, ["handoff"]),
    ("POST", f"{ONE}/say", {"message": {"id": "m1", "content": "x"}}, ["handoff"]),
]
# What a token gets by itself: the list has what may be read, a ticket grants what it does, a newer one is proved by it.
OF_THE_TOKEN = {("GET", "/v1/sessions"), ("POST", "/v1/tickets"), ("POST", "/v1/refresh")}
OPEN_TO_ALL = {"/healthz", "/readyz", "/metrics", "/openapi.json"}
EVERY = sorted(OPERATIONS - {"*", "control:*"}) + [f"state:{name}" for name in ("plan", "else")]


def test_the_table_has_every_operation_of_the_socket_and_every_path() -> None:
    assert {op for op, _, _ in SOCKET} == ({*operations._MODELS} | {*CAPABILITIES}) - OF_THE_CONNECTION
    paths = {
        (method.upper(), path)
        for path, of in openapi.document()["paths"].items()
        for method in of
        # What is granted of durable streams: durable/test_rights.py; of the dialects: dialects/test_rights*.py.
        if path not in described() | of_ai_sdk() | of_ag_ui()
    }
    asked = {(method, _named(path)) for method, path, _, _ in HTTP}
    assert asked | {("GET", path) for path in OPEN_TO_ALL} | OF_THE_TOKEN == paths


def _named(path: str) -> str:
    path = path.partition("?")[0].replace("/q1", "/{request}").replace("/user:bob", "/{participant}")
    return path.replace("/plan", "/{document}").replace("/case", "/{hold}")


async def refused(client: Client, op: str, fields: dict[str, Any]) -> str | None:
    """Ask for something; return which operation was not granted, None where another answer came."""
    number = 4_000_000 + client._ids
    client._ids += 1
    await client.send(op=op, id=number, session="s1", **fields)
    await client.send(op="ping", id=number + 500_000)
    answer: dict[str, Any] | None = None
    while True:
        # A signal that is granted has no answer; requests are carried out side by side, so a pong may come first.
        frame = await client.until(lambda f: isinstance(f, dict) and f.get("id") in (number, number + 500_000))
        if frame["id"] == number:
            answer = frame
        if answer is not None or op == "signal":
            break
    if answer is None or answer["op"] != "error" or answer["code"] != "forbidden":
        return None
    return str(answer.get("operation", "")) or None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("op", "fields", "needs"), SOCKET, ids=lambda value: value if isinstance(value, str) else "")
async def test_the_socket_does_what_is_granted_and_nothing_else(
    house: Running, role: str, op: str, fields: dict[str, Any], needs: list[str]
) -> None:
    me = f"{role}:x"
    async with greeted(house.url, house.token(me, sessions={"s1": needs})) as allowed:
        assert await refused(allowed, op, fields) is None
    for lacking in needs:
        without = [operation for operation in EVERY if operation != lacking]
        async with greeted(house.url, house.token(me, sessions={"s1": without})) as denied:
            if lacking == "create":
                continue  # the session is there by now: nothing is made
            if op == "signal":
                await denied.send(op="signal", id=7, session="s1", body={})
                answer = await denied.until(lambda f: isinstance(f, dict) and f.get("id") == 7)
                assert (answer["code"], answer["operation"]) == ("forbidden", lacking)
            else:
                assert await refused(denied, op, fields) == lacking
    async with greeted(house.url, house.token(me, sessions={"s2": ["*"], "s1x*": ["*"]})) as elsewhere:
        if op != "signal":
            assert await refused(elsewhere, op, fields) == needs[0]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path", "body", "needs"), HTTP, ids=lambda v: v if isinstance(v, str) else "")
async def test_http_does_what_is_granted_and_nothing_else(
    house: Running, agent: Fabric, role: str, method: str, path: str, body: dict[str, Any] | None, needs: list[str]
) -> None:
    await agent.session("s1").create()
    url = house.url + path.replace("{session}", "s1")
    async with aiohttp.ClientSession() as http:

        async def call(**sessions: list[str]) -> tuple[int, str | None]:
            headers = {"Authorization": f"Bearer {house.token(f'{role}:x', sessions=sessions)}"}
            async with http.request(method, url, json=body, headers=headers) as answer:
                if answer.status != 403:
                    return answer.status, None
                problem = await answer.json()
                assert problem["code"] == "forbidden"
                return 403, problem.get("operation")

        for lacking in needs:
            if lacking != "create" or path == "/v1/sessions" or path.endswith("/fork"):
                assert await call(s1=[op for op in EVERY if op != lacking]) == (403, lacking)
        assert await call(s2=["*"]) == (403, needs[0])
        status, operation = await call(**({"*": needs} if path.endswith("/fork") else {"s1": needs}))
        assert operation is None
        assert status < 500


async def test_what_is_not_there_is_made_by_who_may_create_alone(house: Running) -> None:
    asks: list[tuple[str, dict[str, Any]]] = [
        ("open", {}),
        ("append", {"event": EVENT}),
        ("state.put", {"document": "plan", "body": {}}),
        ("state.watch", {}),
    ]
    async with greeted(house.url, house.token(sessions={"*": [op for op in EVERY if op != "create"]})) as ada:
        for number, (op, fields) in enumerate(asks):
            assert (await ada.ask(op, session=f"new-{number}", **fields))["code"] == "session_not_found"
    async with greeted(house.url, house.token(sessions={"*": EVERY})) as ada:
        for number, (op, fields) in enumerate(asks):
            assert (await ada.ask(op, session=f"new-{number}", **fields))["op"] != "error"


async def test_the_list_holds_what_may_be_read(house: Running, agent: Fabric) -> None:
    for name in ("a-1", "a-2", "b-1"):
        await agent.session(name).create()
    async with aiohttp.ClientSession() as http:

        async def names(**sessions: list[str]) -> list[str]:
            headers = {"Authorization": f"Bearer {house.token(sessions=sessions)}"}
            found, cursor = [], ""
            while True:
                async with http.get(f"{house.url}/v1/sessions?limit=1{cursor}", headers=headers) as answer:
                    page = await answer.json()
                found += [record["session"] for record in page["sessions"]]
                if page["next"] is None:
                    return sorted(found)
                cursor = f"&cursor={page['next']}"

        assert await names(**{"a-*": ["read"]}) == ["a-1", "a-2"]
        assert await names(**{"b-1": ["read"], "a-1": ["append"]}) == ["b-1"]
        assert await names(**{"*": ["append"]}) == []


async def test_a_new_token_that_grants_less_ends_what_it_does_not_grant(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token(sessions={"*": ["*"]})) as ada:
        kept, lost = (await ada.open("kept"))["sub"], (await ada.open("lost"))["sub"]
        await ada.ask("state.watch", session="lost")
        less = house.token(sessions={"kept": ["read"]})
        assert (await ada.ask("refresh", token=less))["op"] == "ok"
        gone = await ada.op("gone")
        assert (gone["sub"], gone["code"]) == (lost, "forbidden")
        await agent.session("lost").append({"type": "app.secret"})
        await agent.session("lost").state("plan").put({"secret": 1})
        await agent.session("kept").append({"type": "app.seen"})
        events = await ada.until_events(lambda events: any(e["type"] == "app.seen" for e in events))
        assert "app.secret" not in {e["type"] for e in events}
        assert not any(isinstance(f, dict) and f["op"] == "state" for f in ada.frames)
        assert (await ada.ask("append", session="kept", event=EVENT))["code"] == "forbidden"
        assert kept != lost


async def test_who_is_shut_out_while_catching_up_gets_nothing_more(house: Running, agent: Fabric) -> None:
    session = agent.session("lost")
    for _ in range(100):
        await session.append({"type": "app.large", "body": "x" * 200_000})
    async with greeted(house.url, house.token(sessions={"*": ["*"]})) as ada:
        # More than fits in all buffers on the way, and nobody reads: it is still catching up when the token comes.
        await ada.open("lost", after="start")
        await ada.send(op="refresh", id=1002, token=house.token(sessions={"kept": ["read"]}))
        while "gone" not in {frame["op"] for frame in ada.frames if isinstance(frame, dict)}:
            ada.frames.append(await ada.next())
        before = len(ada.events)
        await session.append({"type": "app.secret"})
        for _ in range(200):  # each a turn in which more could come
            assert (await ada.ask("ping"))["op"] == "pong"
        assert len(ada.events) == before < 101


class Mine:
    """Lets users into the sessions that they take part in, and into no others."""

    def __init__(self, inner: Authenticator) -> None:
        self._inner = inner

    async def authenticate(self, token: str | None) -> Grant:
        grant = await self._inner.authenticate(token)
        return grant._replace(given=of_role(grant.role, mine_only=grant.role == "user"))


@pytest.fixture
def closed_house(house: Running) -> Running:
    house.gateway.authenticator = Mine(house.gateway.authenticator)
    return house


async def test_users_enter_the_sessions_that_they_take_part_in_alone(closed_house: Running) -> None:
    house = closed_house
    async with (
        greeted(house.url, house.token("user:ada")) as ada,
        greeted(house.url, house.token("user:bob")) as bob,
        greeted(house.url, house.token("operator:eve")) as eve,
    ):
        await ada.open("s1")  # made by her, it is hers
        await eve.open("s1")
        for op, fields, needs in SOCKET:
            if op != "signal":
                answer = await bob.ask(op, session="s1", **fields)
                assert (answer["op"], answer["code"]) == ("error", "forbidden"), (op, needs)
        assert (await bob.ask("participant.add", session="s1", participant="user:bob"))["code"] == "forbidden"
        await ada.ask("participant.add", session="s1", participant="user:bob")
        opened = await bob.open("s1")
        await bob.ask("state.watch", session="s1")
        assert (await bob.append("s1", EVENT["body"]))["op"] == "appended"
        await eve.ask("participant.remove", session="s1", participant="user:bob")
        gone = await bob.op("gone")
        assert (gone["sub"], gone["code"]) == (opened["sub"], "forbidden")
        await ada.ask("state.put", session="s1", document="plan", body={"secret": 1})
        await ada.append("s1", {"type": "app.secret"})
        assert (await bob.ask("open", session="s1"))["code"] == "forbidden"
        await ada.until_events(lambda events: any(e["type"] == "app.secret" for e in events))
        assert "app.secret" not in {e["type"] for e in bob.events}
        assert not any(isinstance(f, dict) and f["op"] == "state" for f in bob.frames)


async def test_a_user_lists_the_sessions_that_it_takes_part_in(closed_house: Running, agent: Fabric) -> None:
    house = closed_house
    await agent.session("others").create()
    await agent.session("shared").create(participants=["user:ada"])
    async with greeted(house.url, house.token("user:ada")) as ada:
        await ada.open("own")
    async with aiohttp.ClientSession() as http:
        for who, expected in (("user:ada", ["own", "shared"]), ("user:bob", []), ("operator:eve", None)):
            headers = {"Authorization": f"Bearer {house.token(who)}"}
            async with http.get(f"{house.url}/v1/sessions", headers=headers) as answer:
                names = sorted(record["session"] for record in (await answer.json())["sessions"])
            assert names == (["others", "own", "shared"] if expected is None else expected)
            async with http.get(f"{house.url}/v1/sessions/others/events", headers=headers) as answer:
                assert answer.status == (403 if who.startswith("user") else 200)


async def test_of_two_users_who_make_a_session_at_once_one_has_it(closed_house: Running) -> None:
    house = closed_house
    async with (
        greeted(house.url, house.token("user:ada")) as ada,
        greeted(house.url, house.token("user:bob")) as bob,
    ):
        for number in range(20):
            answers = await asyncio.gather(*(one.ask("open", session=f"s{number}") for one in (ada, bob)))
            assert sorted(answer["op"] for answer in answers) == ["error", "opened"]
            winner = ("user:ada", "user:bob")[[answer["op"] for answer in answers].index("opened")]
            opened = next(answer for answer in answers if answer["op"] == "opened")
            assert opened["session"]["participants"] == [winner]
