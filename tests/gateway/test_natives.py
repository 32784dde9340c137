"""Agents with no rights at the broker but to ask: the gateway answers them, by what their tokens grant."""

from __future__ import annotations

import asyncio
import time

import pytest
from session_fabric import Fabric
from session_fabric.jetstream.credentials import Credentials
from session_fabric.remote.broker import RemoteBroker
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import Revocation
from session_fabric.spelling import spell_stretch
from session_fabric.words.errors import FabricError, Forbidden, RateLimited, TokenExpired, Unauthenticated

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import greeted
from tests.support.sessions import ended, follow_until, said, text_of
from tests.support.waiting import eventually


async def connected(url: str | None, house: Running, token: str, participant: str = "agent:helper") -> Fabric:
    assert url is not None
    broker = await RemoteBroker.connect(
        url, tenant=house.tenant, participant=participant, credentials=Credentials(bearer=token)
    )
    return await Fabric.over(broker, tenant=house.tenant, participant=participant)


async def test_an_agent_that_may_only_ask_answers_a_session(house: Running, broker_url: str | None) -> None:
    async with await connected(broker_url, house, house.token("agent:helper")) as fabric:
        session = fabric.session("chat-1")
        await session.append(said("Hello"))
        async with session.run() as run:
            for word in ("Hello", " from", " afar"):
                await run.text(word)
        assert text_of(await follow_until(session, ended(run.id))) == "Hello from afar"


async def test_a_pools_agent_that_may_only_ask_is_woken(house: Running, broker_url: str | None, agent: Fabric) -> None:
    async with await connected(broker_url, house, house.token("agent:helper")) as fabric:

        @fabric.agent(pool="support")
        async def answer(run: object) -> None:
            await run.text("Here I am")  # type: ignore[attr-defined]

        serving = asyncio.create_task(fabric.serve())
        session = agent.session("chat-2")
        await session.append({**said("Hello"), "pool": "support"})
        events = await follow_until(session, lambda seen: any(e.type == "RUN_FINISHED" for e in seen))
        assert text_of(events) == "Here I am"
        answer.stop()
        await serving


@pytest.mark.parametrize(
    ("participant", "claims", "error"),
    [
        ("agent:other", {}, Forbidden),
        ("user:ada", {}, Forbidden),
        ("agent:helper", {"expires_in_s": -60}, TokenExpired),
        ("agent:helper", {"tenant": "theirs"}, Forbidden),
    ],
)
async def test_a_token_of_another_is_refused(
    house: Running, broker_url: str | None, participant: str, claims: dict[str, object], error: type[FabricError]
) -> None:
    with pytest.raises(error):
        await connected(broker_url, house, house.token(participant, **claims))  # type: ignore[arg-type]


async def test_without_a_token_nothing_is_answered(house: Running, broker_url: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await connected(broker_url, house, "")


async def test_users_do_not_come_this_way(house: Running, broker_url: str | None) -> None:
    with pytest.raises(Forbidden):
        await connected(broker_url, house, house.token("user:ada"), "user:ada")


async def test_what_a_token_does_not_grant_is_refused(house: Running, broker_url: str | None, agent: Fabric) -> None:
    await agent.session("theirs").append(said("secret"))
    token = house.token("agent:helper", sessions={"mine": ["read", "append", "create"]})
    async with await connected(broker_url, house, token) as fabric:
        await fabric.session("mine").append(said("Hello"))
        with pytest.raises(Forbidden):
            await fabric.session("theirs").append(said("Hello"))
        assert [record.session for record in (await fabric.sessions()).records] == ["mine"]


async def test_a_token_that_is_revoked_is_refused_at_the_next_request(
    house: Running, broker_url: str | None, agent: Fabric
) -> None:
    token = house.token("agent:helper", jti="t1")
    async with await connected(broker_url, house, token) as fabric:
        await fabric.session("chat-1").append(said("Hello"))
        now_ms = time.time_ns() // 1_000_000
        wanted = Revocation(house.tenant, "token", "t1", now_ms, now_ms + 600_000)
        await revoke(agent.broker, wanted, by="operator:ann", now_ms=now_ms)

        async def refused() -> bool:
            try:
                await fabric.session("chat-1").append(said("Hello again", "m2"))
            except Unauthenticated:
                return True
            return False

        await eventually(refused)


async def test_what_an_agent_reads_of_the_past_is_held_to_a_rate(start: Start, broker_url: str | None) -> None:
    async with start(limit=["program.history=0.001/150"]) as house:
        async with greeted(house.url, house.token(sessions={"*": ["*"]})) as ada:
            for number in range(100):
                await ada.append("long", {"type": "app.n", "n": number})
        async with await connected(broker_url, house, house.token("agent:helper")) as fabric:
            session = fabric.session("long")
            to = (await session.record()).stretch
            asked = {"to": spell_stretch(to), "via": "long", "after": 0, "upto": 10**9, "wanted": []}
            link = fabric.broker._link  # type: ignore[attr-defined]
            for _ in range(2):  # the second is more than there is left: it is known when it has been read
                told, _ = await link.ask("read", asked, timeout_s=5.0)
                assert len(told["records"]) >= 100
            with pytest.raises(RateLimited) as refused:
                await link.ask("read", asked, timeout_s=0.3)
            assert (refused.value.facts["of"], refused.value.facts["scope"]) == ("history", "program")
            # What it does now is not history.
            await session.append(said("Hello"))


@pytest.mark.parametrize("right", ["redact", "erase"])
async def test_what_agents_have_saved_is_removed_by_who_may_redact_or_erase(
    right: str, house: Running, broker_url: str | None, agent: Fabric
) -> None:
    """And may not append: else it would stay, and the proof say that nothing is left."""
    saved = agent.session("mine")
    await saved.append(said("4111-1111"))
    await saved.checkpoints.put({("plan",): b"4111-1111"})
    token = house.token("operator:ann", sessions={"mine": ["read", right]})
    async with await connected(broker_url, house, token, "operator:ann") as fabric:
        session = fabric.session("mine")
        with pytest.raises(Forbidden):
            await session.checkpoints.put({("plan",): b"mine"})
        if right == "redact":
            redaction = await session.redact("m1", reason="x")
            assert (redaction.complete, redaction.checkpoints) == (True, 1)
        else:
            erasure = await session.delete()
            assert (erasure.complete, erasure.before["checkpoints"]) == (True, 1)
    assert await agent.broker.bucket("sf-checkpoints").entries(saved.place.key()) == []
