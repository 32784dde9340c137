"""Holds, retention, redaction and export over HTTP: the same as fabricctl does, for who is granted it."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from session_fabric import Fabric, Session
from session_fabric.importing import verify

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted, user_message
from tests.support.waiting import eventually

RIGHTS = {"*": ["read", "erase", "hold", "redact", "export"]}
SECRET = "4111-1111"


@pytest.fixture
async def officer(house: Running) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {house.token('operator:ann', sessions=RIGHTS)}"}
    async with aiohttp.ClientSession(f"{house.url}/v1/sessions/s1/", headers=headers) as http:
        yield http


@pytest.fixture
async def session(agent: Fabric) -> Session:
    session = agent.session("s1")
    await session.append(user_message(f"Mine is {SECRET}.", "m1"))
    return session


async def asked(
    http: aiohttp.ClientSession, method: str, path: str, body: Any = None, status: int = 200
) -> dict[str, Any]:
    async with http.request(method, path, json=body) as response:
        told = await response.json(content_type=None)
        assert response.status == status, told
        return dict(told)


async def test_what_is_held_is_neither_redacted_nor_deleted_until_it_is_released(
    officer: aiohttp.ClientSession, session: Session
) -> None:
    held = await asked(officer, "PUT", "holds/case-17", {"reason": "Letter of 3 May"})
    assert (held["hold"]["name"], held["hold"]["by"]) == ("case-17", "operator:ann")
    for method, path, body in (("POST", "redactions", {"message": "m1", "reason": "x"}), ("DELETE", "", None)):
        problem = await asked(officer, method, path or "../s1", body, 409)
        assert (problem["code"], problem["hold"], problem["by"]) == ("session_held", "case-17", "operator:ann")
    assert [one["name"] for one in (await asked(officer, "GET", "retention"))["holds"]] == ["case-17"]
    assert (await asked(officer, "DELETE", "holds/case-17"))["holds"] == []
    assert (await asked(officer, "DELETE", "holds/case-17", status=404))["code"] == "hold_not_found"
    assert (await asked(officer, "POST", "redactions", {"message": "m1", "reason": "x"}, 201))["complete"]


async def test_what_is_to_be_redacted_and_is_not_there_is_not_found(
    officer: aiohttp.ClientSession, session: Session
) -> None:
    for body, code in (({"message": "m9"}, "message_not_found"), ({"target": "e9"}, "event_not_found")):
        problem = await asked(officer, "POST", "redactions", {**body, "reason": "x"}, 404)
        assert problem["code"] == code
        assert "There is no" in problem["detail"]


async def test_how_long_a_session_is_kept_is_said_and_set(
    officer: aiohttp.ClientSession, agent: Fabric, session: Session
) -> None:
    await agent.set_retention(max_age_s=86_400)
    kept = await asked(officer, "PUT", "retention", {"retention": {"max_idle_s": 3600, "max_age_s": None}})
    assert kept == await asked(officer, "GET", "retention")
    assert (kept["retention"]["max_idle_s"], kept["retention"]["max_age_s"]) == (3600, None)
    assert (kept["session"], kept["tenant"]) == ({"max_idle_s": 3600, "max_age_s": None}, {"max_age_s": 86_400})
    kept = await asked(officer, "PUT", "retention", {"retention": {"max_age_s": "inherit"}})
    assert kept["retention"]["max_age_s"] == 86_400
    for wrong in ({"max_age_s": 1}, {"max_age": 90}, {"max_events": "many"}, {"self": 1}, {"max_bytes": {}}):
        problem = await asked(officer, "PUT", "retention", {"retention": wrong}, 400)
        assert (problem["code"], problem["field"]) == ("invalid_request", next(iter(wrong)))


async def test_a_policy_has_no_field_that_is_not_its_own(house: Running, session: Session) -> None:
    headers = {"Authorization": f"Bearer {house.token('operator:ann', sessions={'*': ['policy']})}"}
    async with aiohttp.ClientSession(f"{house.url}/v1/sessions/s1/", headers=headers) as http:
        problem = await asked(http, "PUT", "policy", {"policy": {"self": 1}}, 400)
        assert problem["code"] == "invalid_request"


async def test_a_user_is_not_told_of_holds(house: Running, session: Session) -> None:
    await session.hold("A case against her.")
    headers = {"Authorization": f"Bearer {house.token('user:ada', sessions=RIGHTS)}"}
    async with aiohttp.ClientSession(f"{house.url}/v1/sessions/s1/", headers=headers) as ada:
        assert (await asked(ada, "GET", "retention")).keys() == {"retention", "session", "tenant"}
        for method, path, body in (
            ("PUT", "holds/x", {"reason": "x"}),
            ("DELETE", "holds/hold", None),
            ("PUT", "retention", {"retention": {"max_age_s": 90}}),
            ("POST", "redactions", {"message": "m1", "reason": "x"}),
            ("GET", "export", None),
        ):
            assert (await asked(ada, method, path, body, 403))["code"] == "forbidden"


async def test_a_message_is_redacted_and_proves_it(officer: aiohttp.ClientSession, session: Session) -> None:
    await session.checkpoints.put({("plan",): SECRET.encode()})
    await session.state("plan").put({"a": 1})
    proof = await asked(officer, "POST", "redactions", {"message": "m1", "reason": "A card number."}, 201)
    assert (proof["target"], proof["events"], proof["remains"], proof["complete"]) == ("m1", 1, 0, True)
    assert (proof["checkpoints"], proof["checkpoints_left"], proof["waits_for"], proof["documents"]) == (1, 0, {}, 1)
    again = await asked(officer, "POST", "redactions", {"message": "m1", "reason": "x"}, 200)
    assert (again["again"], again["offset"], again["reason"]) == (True, proof["offset"], "A card number.")
    async with officer.get("events") as response:
        events = (await response.json())["events"]
    assert SECRET not in str(events)
    assert (events[-1]["type"], events[-1]["actor"]) == ("message.redacted", "operator:ann")
    noted = await session.append({"type": "app.note", "text": SECRET})
    one = await asked(officer, "POST", "redactions", {"target": str(noted.offset), "reason": "x"}, 201)
    assert one["target"] == str(noted.offset)
    for body, code in (
        ({"reason": "x"}, "invalid_request"),
        ({"message": "m1", "target": "e1", "reason": "x"}, "invalid_request"),
        ({"message": "m1", "reason": ""}, "invalid_request"),
    ):
        assert (await asked(officer, "POST", "redactions", body, 400))["code"] == code


async def test_for_which_runs_something_is_left_is_said(officer: aiohttp.ClientSession, session: Session) -> None:
    await session.checkpoints.put({("plan",): SECRET.encode()})
    async with session.run("r1"):
        proof = await asked(officer, "POST", "redactions", {"message": "m1", "reason": "x"}, 201)
        assert (proof["complete"], proof["remains"], proof["checkpoints_left"]) == (False, 1, 1)
        assert proof["waits_for"] == {"s1": ["r1"]}
    assert (await asked(officer, "POST", "redactions", {"message": "m1", "reason": "x"}, 200))["complete"]
    assert await session.checkpoints.entries() == []


async def test_a_message_that_is_being_written_is_refused(officer: aiohttp.ClientSession, session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("So far")
        message = await eventually(lambda: _of_run(session))
        problem = await asked(officer, "POST", "redactions", {"message": message, "reason": "x"}, 409)
        assert (problem["code"], problem["run"], problem["retryable"]) == ("message_open", "r1", False)


async def _of_run(session: Session) -> str | None:
    return next((m.id for m in (await session.messages()).messages if m.run == "r1"), None)


async def test_forks_that_share_it_need_the_right_too(house: Running, session: Session) -> None:
    await session.fork(await session.head(), "fork-1")
    for sessions, status in (({"s1": ["redact"]}, 403), ({"s1": ["redact"], "fork-*": ["redact"]}, 201)):
        headers = {"Authorization": f"Bearer {house.token('operator:ann', sessions=sessions)}"}
        async with aiohttp.ClientSession(f"{house.url}/v1/sessions/s1/", headers=headers) as http:
            told = await asked(http, "POST", "redactions", {"message": "m1", "reason": "x"}, status)
            if status == 403:
                assert (told["operation"], told["session"]) == ("redact", "fork-1")
            else:
                assert told["forks"] == ["fork-1"]


async def test_over_the_socket_it_is_the_same(house: Running, session: Session) -> None:
    async with greeted(house.url, house.token("operator:ann", sessions=RIGHTS)) as ann:
        assert (await ann.ask("hold", session="s1", hold="case", reason="x"))["hold"]["name"] == "case"
        assert (await ann.ask("redact", session="s1", message="m1", reason="x"))["code"] == "session_held"
        assert (await ann.ask("release", session="s1", hold="case"))["holds"] == []
        assert (await ann.ask("redact", session="s1", message="m1", reason="x"))["complete"]
        kept = await ann.ask("retention.set", session="s1", retention={"max_age_s": 90})
        assert kept["retention"]["max_age_s"] == 90
        assert (await ann.ask("retention", session="s1"))["session"] == {"max_age_s": 90}


# --- export ----------------------------------------------------------------------------------------------


async def test_an_export_over_http_verifies_and_is_the_sdks(officer: aiohttp.ClientSession, session: Session) -> None:
    await session.state("plan").put({"a": 1})
    async with officer.get("export") as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        lines = (await response.read()).splitlines(keepends=True)
    verified = verify(lines)
    assert (verified.manifest["by"], verified.end["documents"]) == ("operator:ann", 1)
    own = verify([line async for line in session.export()])
    assert own.end == verified.end
    await session.append(user_message("More", "m2"))
    query = f"export?after={verified.end['head']}&chain={verified.head}"
    async with officer.get(query) as response:
        more = verify((await response.read()).splitlines(keepends=True))
    assert (more.manifest["previous"], more.events) == (verified.head, 1)
    for wrong in (f"export?after={verified.end['head']}", "export?cursors=yes", f"export?after=x&chain={verified.head}",
                  "export?after=0000000000000001_0000000000000001&chain=short", "export?key=1"):  # fmt: skip
        async with officer.get(wrong) as response:
            assert response.status == 400, wrong


async def test_a_large_export_is_not_gathered_in_memory(officer: aiohttp.ClientSession, session: Session) -> None:
    text, written = "x" * 200_000, 0
    for _ in range(250):
        await session.append({"type": "app.blob", "text": text})
        written += len(text)
    tracemalloc.start()
    try:
        got = 0
        async with officer.get("export") as response:
            tracemalloc.reset_peak()
            begun, _ = tracemalloc.get_traced_memory()
            async for chunk in response.content.iter_any():
                got += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got > written
    assert peak - begun < written // 3


async def test_an_export_that_is_cut_off_does_not_verify(
    house: Running, agent: Fabric, officer: aiohttp.ClientSession, session: Session
) -> None:
    text = "x" * 200_000
    for _ in range(100):
        await session.append({"type": "app.blob", "text": text})
    got = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async with officer.get("export") as response:
            got += await response.content.readexactly(1000)
            # Its record is gone while it reads on: what the next look at the session finds.
            await session.delete()
            async for chunk in response.content.iter_any():
                got += chunk
    with pytest.raises(Exception, match="Line"):
        verify(got.splitlines(keepends=True))
    assert orjson.loads(got.splitlines()[0])["data"]["session"] == "s1"
