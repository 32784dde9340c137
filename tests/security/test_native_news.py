"""What is told live to those whose sessions the broker has no name for: a pattern of names."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
from session_fabric import Event, Fabric, Signal
from session_fabric.remote.broker import RemoteBroker
from session_fabric.rules.permissions import BUCKETS
from session_fabric.words.errors import Forbidden, InvalidRequest, RateLimited
from session_fabric.words.subjects import Place, bucket_live

from tests.gateway.conftest import running
from tests.security.attacks import runs
from tests.security.native_world import World
from tests.support.waiting import eventually

GRANTED = {"support-*": ["read", "append", "create", "control:*", "state:*", "signal", "presence"]}


def helper(world: World, **claims: Any) -> AbstractAsyncContextManager[Fabric]:
    """Connect as one whose credentials were granted for a pattern."""
    return world.native(by_name=(), **{"sessions": GRANTED, **claims})


async def test_a_run_of_a_pattern_hears_that_it_is_cancelled(world: World) -> None:
    async with helper(world) as fabric:
        started = asyncio.Event()

        async def work() -> None:
            async with fabric.session("support-1").run("r1") as run:
                await run.text("I am")
                started.set()
                await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await started.wait()
        asked = await world.fabric.session("support-1").control("cancel", run="r1")
        assert (await world.fabric.session("support-1").outcome(asked)).type == "control.accepted"
        await asyncio.wait_for(asyncio.gather(working, return_exceptions=True), 20)


async def test_events_documents_and_signals_come_as_they_are_written(world: World) -> None:
    async with helper(world) as fabric:
        mine, theirs = fabric.session("support-1"), world.fabric.session("support-1")
        await theirs.append({"type": "app.first"})
        events: list[Event] = []
        states: list[Any] = []
        signals: list[Signal] = []

        async def follow() -> None:
            async for event in mine.follow():
                events.append(event)

        async def watch() -> None:
            async for state in mine.state("plan").watch():
                states.append(state.body)

        tasks = [asyncio.create_task(follow()), asyncio.create_task(watch())]
        listening = await mine.on_signal(signals.append)
        await eventually(lambda: events)
        for n in range(50):
            await theirs.append({"type": "app.note", "n": n})
        await theirs.state("plan").put({"a": 1})
        await eventually(lambda: len([e for e in events if e.type == "app.note"]) == 50)
        assert [e.body["n"] for e in events if e.type == "app.note"] == list(range(50))
        await eventually(lambda: {"a": 1} in states)

        async def signalled() -> bool:
            await theirs.signal({"typing": True})
            return bool(signals)

        await eventually(signalled)
        await listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_another_gateway_goes_on_with_what_one_has_passed_on(world: World) -> None:
    """Eight sessions, so that both have some of them; every event comes, once, when one of the two is gone.

    Signals are stored nowhere: that they come again tells that somebody passes them on.
    """
    settings = {"nats_credentials": world.guarded.nkey, "native_agents": str(world.guarded.seeds)}
    names = [f"support-{n}" for n in range(8)]
    seen: dict[str, list[int]] = {name: [] for name in names}
    signalled: set[str] = set()

    def heard(name: str, _: Signal) -> None:
        signalled.add(name)

    async with helper(world) as fabric:

        async def follow(name: str) -> None:
            async for event in fabric.session(name).follow():
                if event.type == "app.note":
                    seen[name].append(event.body["n"])

        async with running(world.guarded.server.url, world.tenant, **settings):
            listening = [await fabric.session(name).on_signal(partial(heard, name)) for name in names]
            for name in names:
                await world.fabric.session(name).append({"type": "app.note", "n": 0})
            tasks = [asyncio.create_task(follow(name)) for name in names]
            await eventually(lambda: all(found == [0] for found in seen.values()))
        for n in (1, 2):
            for name in names:
                await world.fabric.session(name).append({"type": "app.note", "n": n})
        await eventually(lambda: all(found == [0, 1, 2] for found in seen.values()), 30)
        signalled.clear()

        async def all_heard() -> bool:
            for name in names:
                await world.fabric.session(name).signal({"typing": True})
            return signalled == set(names)

        await eventually(all_heard, 30, every_s=0.1)
        for one in listening:
            await one.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@runs("Q2")
async def test_nothing_is_passed_on_of_what_is_not_granted(world: World) -> None:
    async with helper(world) as fabric:
        link = fabric.broker._link  # type: ignore[attr-defined]  # by hand, as no SDK would

        async def ask(place: list[str] | None, *subjects: object) -> None:
            await link.ask("news", {"id": "x", "place": place, "subjects": list(subjects)})

        tenant = world.tenant
        mine, other = Place(tenant, "support-1"), Place(tenant, "other")
        for place in ([tenant, "other"], [f"{tenant}b", "support-1"]):
            with pytest.raises(Forbidden):
                await ask(place, Place(*place).live_filter())
        for subject in (
            other.live_filter(),
            Place(f"{tenant}b", "support-1").live_filter(),
            f"sf-live.{tenant}.>",
            f"sf-live.{tenant}.support-*.>",
            ">",
            "$JS.>",
            f"sf-kv.sf-leases.{mine.key()}",
            f"{mine.live_filter()} x",
            7,
        ):
            with pytest.raises(InvalidRequest):
                await ask(list(mine), subject)
        for subject in (f"sf-live.{tenant}.>", f"{bucket_live('sf-leases')}.{tenant}.>", f"sf-kv.sf-state.{tenant}b.>"):
            with pytest.raises(InvalidRequest):
                await ask(None, subject)
        # What is heard of all of a bucket is what one may see of it.
        heard: list[str] = []
        buckets = [fabric.broker.bucket(name) for name in BUCKETS]
        watching = [await bucket.watch("", lambda entry: heard.append(entry.key)) for bucket in buckets]
        for name in ("other", "support-1"):
            await world.fabric.session(name).append({"type": "app.note"})
            await world.fabric.session(name).state("plan").put({"a": 1})
        await eventually(lambda: any("plan" in key for key in heard))
        assert not [key for key in heard if "other" in key]
        for one in watching:
            await one.close()


async def test_so_many_sessions_can_be_heard_of_at_once_and_no_more(world: World) -> None:
    async with helper(world) as fabric:
        place = Place(world.tenant, "support-1")
        link = fabric.broker._link  # type: ignore[attr-defined]
        ids: list[str] = []

        async def one_more() -> None:
            ids.append(f"n{len(ids)}")
            asked = {"id": ids[-1], "place": list(place), "subjects": [place.signals()]}
            await link.ask("news", asked, timeout_s=4.0)  # what is refused is asked again, for less than a lease

        for _ in range(2000 // 50 - 1):
            await asyncio.gather(*(one_more() for _ in range(50)))
            # As the SDK says now and then: on a slow machine the first would be let go before the last are there.
            assert await link.ask("news_keep", {"ids": ids}) == ([], [])
        with pytest.raises(RateLimited, match="2000 sessions"):
            for _ in range(51):
                await one_more()


async def test_who_is_revoked_hears_no_more(world: World) -> None:
    async with helper(world, jti="t1") as fabric:
        events: list[str] = []

        async def follow() -> None:
            async for event in fabric.session("support-1").follow():
                events.append(event.type)

        await world.fabric.session("support-1").append({"type": "app.first"})
        following = asyncio.create_task(follow())
        await eventually(lambda: "app.first" in events)
        await world.revoke("token", "t1")
        await eventually(lambda: not fabric.broker.connected, 30)
        await world.fabric.session("support-1").append({"type": "app.secret"})
        assert "app.secret" not in events
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_token_that_comes_late_goes_on_with_what_was_heard(world: World) -> None:
    """Between two tokens there was none that counted; what was followed then is followed again."""
    tokens = [world.token(sessions=GRANTED, jti="t1")]
    async with helper(world, jti="t1") as fabric:
        broker = fabric.broker
        assert isinstance(broker, RemoteBroker)
        broker._link._token = lambda: tokens[-1]  # as of a file of credentials that is written anew
        heard: list[Signal] = []
        session, theirs = fabric.session("support-1"), world.fabric.session("support-1")
        await theirs.append({"type": "app.first"})
        listening = await session.on_signal(heard.append)
        tokens.append("none")
        news = broker._news
        await eventually(lambda: any(one.refused for one in news._heard.values()), 30)
        tokens.append(world.token(sessions=GRANTED, jti="t2"))
        await eventually(lambda: not any(one.refused for one in news._heard.values()), 30)

        async def signalled() -> bool:
            await theirs.signal({"typing": True})
            return bool(heard)

        await eventually(signalled)
        await listening.close()
