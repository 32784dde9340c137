"""Lists of sessions: pages from the newest change on, of which none is missed."""

from __future__ import annotations

import asyncio
import time

import pytest
from session_fabric import Fabric
from session_fabric.words.errors import Forbidden, InvalidRequest

from tests.support.waiting import eventually


async def make(fabric: Fabric, names: list[str]) -> None:
    for name in names:
        await fabric.session(name).create()


async def listed(fabric: Fabric, limit: int) -> list[str]:
    """Return the names of all pages, as they come."""
    page = await fabric.sessions(limit=limit)
    found = [record.session for record in page.records]
    while page.next is not None:
        page = await fabric.sessions(limit=limit, cursor=page.next)
        assert 0 < len(page.records) <= limit
        found += [record.session for record in page.records]
    return found


@pytest.mark.parametrize("limit", [1, 3, 5, 6, 7])
async def test_the_session_that_changed_last_comes_first(fabric: Fabric, limit: int) -> None:
    await make(fabric, [f"chat-{n}" for n in range(6)])
    await fabric.session("chat-2").close()
    assert await listed(fabric, limit) == ["chat-2", "chat-5", "chat-4", "chat-3", "chat-1", "chat-0"]


async def test_a_session_that_changes_while_one_reads_is_not_missed(fabric: Fabric) -> None:
    names = [f"chat-{n}" for n in range(8)]
    await make(fabric, names)
    page = await fabric.sessions(limit=3)
    assert [record.session for record in page.records] == ["chat-7", "chat-6", "chat-5"]
    await fabric.session("chat-0").close()
    await fabric.session("chat-6").close()
    await make(fabric, ["chat-8"])
    rest: list[str] = []
    states: dict[str, str] = {}
    while page.next is not None:
        page = await fabric.sessions(limit=3, cursor=page.next)
        rest += [record.session for record in page.records]
        states |= {record.session: record.state for record in page.records}
    assert rest[:4] == ["chat-4", "chat-3", "chat-2", "chat-1"]
    assert rest[4:] == ["chat-8", "chat-6", "chat-0"]
    assert states["chat-0"] == states["chat-6"] == "closed"


async def test_a_session_that_is_deleted_is_not_listed(fabric: Fabric) -> None:
    await make(fabric, ["a", "b", "c"])
    fork = await fabric.session("b").fork(await fabric.session("b").head(), "fork")
    await fabric.session("b").delete()  # kept for its fork
    await fabric.session("a").delete()
    assert await listed(fabric, 2) == [fork.name, "c"]


async def test_sessions_that_are_not_wanted_are_looked_at_and_left_out(fabric: Fabric) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(300):
            group.create_task(fabric.session(f"chat-{n}").create({"team": "red" if n % 100 == 0 else "blue"}))
    page = await fabric.sessions(limit=2, where=lambda record: record.labels["team"] == "red")
    assert len(page.records) == 2
    last = await fabric.sessions(limit=2, cursor=page.next, where=lambda record: record.labels["team"] == "red")
    assert {record.session for record in (*page.records, *last.records)} == {"chat-0", "chat-100", "chat-200"}
    assert last.next is None
    assert page.looked + last.looked >= 201


async def test_since_says_how_far_back_to_look(fabric: Fabric) -> None:
    await make(fabric, ["old"])
    changed = (await fabric.sessions()).changed[0]
    assert abs(changed - time.time() * 1000) < 60_000
    await eventually(lambda: time.time() * 1000 > changed + 2)  # the broker's clock tells milliseconds
    await make(fabric, ["new"])
    page = await fabric.sessions(since_ms=changed + 1)
    assert [record.session for record in page.records] == ["new"]


@pytest.mark.needs_rights
async def test_operators_see_the_sessions_of_all_tenants_and_nobody_else_does(fabric: Fabric) -> None:
    await make(fabric, ["ours"])
    await make(fabric.view(tenant=f"{fabric.tenant}x"), ["theirs"])
    with pytest.raises(Forbidden):
        await fabric.sessions(all_tenants=True)
    operator = fabric.view(participant="operator:eve")
    seen = {(record.tenant, record.session) for record in (await operator.sessions(all_tenants=True)).records}
    assert {(fabric.tenant, "ours"), (f"{fabric.tenant}x", "theirs")} <= seen


@pytest.mark.parametrize("cursor", ["", "x", "1~2", "1~2~3~4", "-1~2~3", "1~2~" + "9" * 40])
async def test_what_is_no_cursor_is_refused(fabric: Fabric, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a cursor"):
        await fabric.sessions(cursor=cursor)
