"""Every operation of those who come over NATS: for who was granted it and for who was not, no cell missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from session_fabric import Fabric, Offset, Session
from session_fabric.jetstream.credentials import Credentials
from session_fabric.remote.broker import RemoteBroker
from session_fabric.rules.grants import OPERATIONS
from session_fabric.rules.permissions import ROLES
from session_fabric.words.errors import FabricError, Forbidden

from tests.gateway.conftest import Running
from tests.support.sessions import said
from tests.support.waiting import eventually

EVERY = sorted(OPERATIONS - {"*", "control:*"}) + [f"state:{name}" for name in ("plan", "else")]


@dataclass
class Scene:
    """A session in which there is something of everything, made by who may do everything."""

    # The caller's, with the rights that it has.
    fabric: Fabric
    offset: Offset
    run: str
    request: str
    offer: str


@asynccontextmanager
async def staged(fabric: Fabric, me: str) -> AsyncIterator[Scene]:
    session = fabric.session("s1")
    await session.append(said("Hello"), id="e1")
    await session.state("plan").put({"a": 1})
    operator = fabric.view(participant="operator:stage").session("s1")

    async def work() -> None:
        async with session.run() as run:
            started.set_result(run.id)
            await run.ask("Which?", options=["A", "B"], id="q1")

    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    working = asyncio.create_task(work())
    try:
        run = await started
        await eventually(session.requests)
        offer = await operator.floor().offer(me)
        offset = await session.head()
        yield Scene(fabric, offset, run, "q1", offer.request)
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError, FabricError):
            await working


class Case(NamedTuple):
    """`needs`: beside `read`. `able`: roles that may do it where it is granted; others are refused whatever is."""

    name: str
    call: Callable[[Session, Scene], Awaitable[object]]
    needs: list[str]
    able: frozenset[str] = frozenset(ROLES)


async def run(session: Session, _: Scene) -> None:
    async with session.run() as one:
        await one.text("x")


async def follow(session: Session, _: Scene) -> None:
    await anext(session.follow())


async def joined(session: Session, _: Scene) -> None:
    async with session.join(status="idle"):
        pass


async def subscribed(_: Session, scene: Scene) -> None:
    async with scene.fabric.subscribe(durable="d1", session="s1"):
        pass


async def exported(session: Session, _: Scene) -> None:
    async with aclosing(session.export()) as lines:
        await anext(lines)


PEOPLE = frozenset({"operator", "supervisor"})
MESSAGE = said("More")
CASES = [
    Case("head", lambda s, _: s.head(), []),
    Case("history", lambda s, _: s.history(), []),
    Case("messages", lambda s, _: s.messages(), []),
    Case("follow", follow, []),
    Case("record", lambda s, _: s.record(create=False), []),
    Case("members", lambda s, _: s.members(), []),
    Case("requests", lambda s, _: s.requests(), []),
    Case("runs", lambda s, _: s.runs(), []),
    Case("cursors", lambda s, _: s.cursors(), []),
    Case("documents", lambda s, _: s.documents(), []),
    Case("state.get", lambda s, _: s.state("plan").get(), []),
    Case("state.history", lambda s, _: s.state("plan").history(), []),
    Case("floor", lambda s, _: s.floor().state(), []),
    Case("subscribe", subscribed, []),
    Case("append", lambda s, _: s.append({"type": "app.note"}), ["append"]),
    Case("append, interrupting", lambda s, _: s.append({**MESSAGE, "when_busy": "interrupt"}),
         ["append", "control:interrupt"]),
    Case("append, steering", lambda s, _: s.append({**MESSAGE, "when_busy": "steer"}), ["append", "control:steer"]),
    Case("append, redirecting", lambda s, g: s.append({**MESSAGE, "redirects": g.run}), ["control:redirect"]),
    Case("run", run, ["append"], frozenset({"agent", "service"})),
    Case("select", lambda s, _: s.select("m1"), ["append"]),
    *(Case(f"control {action}", lambda s, g, action=action, body=body: s.control(action, run=g.run, body=body),  # type: ignore[misc]
           [f"control:{action}"])
      for action, body in (("cancel", None), ("interrupt", None), ("steer", {"text": "x"}),
                           ("redirect", {"message": {"id": "m9", "content": "x"}}))),
    Case("answer", lambda s, g: s.answer(g.request, "A"), ["answer"]),
    Case("join", joined, ["presence"]),
    Case("state.put", lambda s, _: s.state("plan").put({"b": 1}), ["state:plan"]),
    Case("state.patch", lambda s, _: s.state("plan").patch({"b": 1}), ["state:plan"]),
    Case("state.delete", lambda s, _: s.state("plan").delete(), ["state:plan"]),
    Case("cursor", lambda s, g: s.seen(g.offset), ["cursor"]),
    Case("participant.add", lambda s, _: s.add_participant("user:bob"), ["invite"]),
    Case("policy", lambda s, _: s.set_policy(when_busy="reject"), ["policy"]),
    Case("close", lambda s, _: s.close(), ["policy"]),
    Case("whisper", lambda s, _: s.whisper("psst"), ["supervise"], PEOPLE | {"service"}),
    Case("handoff.offer", lambda s, _: s.floor().offer("role:operator"), ["handoff"], PEOPLE | {"service"}),
    Case("handoff.accept", lambda s, g: s.floor().accept(g.offer), ["handoff"]),
    Case("handoff.decline", lambda s, g: s.floor().decline(g.offer), ["handoff"]),
    Case("floor.take", lambda s, _: s.floor().take(), ["handoff"], PEOPLE | {"service"}),
    Case("fork", lambda s, g: s.fork(g.offset, "s2"), ["create"]),
    Case("delete", lambda s, _: s.delete(), ["erase"]),
    Case("hold", lambda s, _: s.hold("a case"), ["hold"], PEOPLE | {"agent", "service"}),
    Case("export", exported, ["export"], PEOPLE | {"agent", "service"}),
    Case("redact", lambda s, _: s.redact("m1", reason="x"), ["redact"], PEOPLE | {"agent", "service"}),
]  # fmt: skip


@asynccontextmanager
async def native(house: Running, url: str | None, me: str, **sessions: list[str]) -> AsyncIterator[Fabric]:
    assert url is not None
    broker = await RemoteBroker.connect(
        url,
        tenant=house.tenant,
        participant=me,
        credentials=Credentials(bearer=house.token(me, sessions=sessions)),
    )
    async with await Fabric.over(broker, tenant=house.tenant, participant=me) as fabric:
        yield fabric


async def refused(call: Awaitable[object]) -> FabricError | None:
    """Do something; return why it was refused, None where it was not."""
    try:
        async with asyncio.timeout(20):
            await call
    except FabricError as error:
        return error
    return None


@pytest.mark.parametrize("role", sorted(ROLES))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_native_agent_does_what_is_granted_and_nothing_else(
    house: Running, broker_url: str | None, agent: Fabric, role: str, case: Case
) -> None:
    me = f"{role}:x"
    async with staged(agent, me) as scene:

        async def attempt(**sessions: list[str]) -> FabricError | None:
            async with native(house, broker_url, me, **sessions) as fabric:
                return await refused(case.call(fabric.session("s1"), replace(scene, fabric=fabric)))

        for lacking in ("read", *case.needs):
            # Of a fork both the source and what it becomes are asked about.
            error = await attempt(**{"*": [operation for operation in EVERY if operation != lacking]})
            assert error is not None, lacking
            if role in case.able:
                assert isinstance(error, Forbidden), error
                assert error.facts.get("operation") == lacking, error
        elsewhere = await attempt(s2=["*"], **{"s1x*": ["*"]})
        assert elsewhere is not None
        error = await attempt(**{"*": ["read", *case.needs]})
        if role in case.able:
            assert not isinstance(error, Forbidden), error
        else:
            assert error is not None


def test_the_table_has_every_operation_that_can_be_granted() -> None:
    listed = {operation for case in CASES for operation in case.needs} | {"read", "signal"}
    assert listed == set(EVERY) - {"state:else"}
