"""A broker that is killed under writing runs and their followers: every text complete, once, in order for everyone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from session_fabric import Fabric
from session_fabric.rules.layout import STREAM_PREFIX

from tests.support.servers import NatsCluster, NatsNode
from tests.support.sessions import Following, api, ended, stored, text_of
from tests.support.waiting import eventually

RUNS = 20
TOKENS = 150


def token(run: int, number: int) -> str:
    return f"[{run}.{number}é😀]"


def whole(run: int) -> str:
    return "".join(token(run, number) for number in range(TOKENS))


async def write(fabric: Fabric, run: int, written: list[int]) -> None:
    """Write an answer, a session a run, at the pace of a model."""
    async with fabric.session(f"chat-{run}").run("r1", window_s=0.01) as writing, writing.message(f"m{run}") as message:
        for number in range(TOKENS):
            await message.text(token(run, number))
            written[run] += 1
            await asyncio.sleep(0.005)


async def survive(agents: Fabric, viewers: Fabric, harm: Callable[[list[int]], Coroutine[Any, Any, None]]) -> None:
    """Let runs write and followers read while `harm` does its work; then compare every text."""
    written = [0] * RUNS
    for run in range(RUNS):
        await viewers.session(f"chat-{run}").create()
    followings = [Following(viewers.session(f"chat-{run}")) for run in range(RUNS)]
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for following in followings:
            group.create_task(following.until(ended("r1"), 90))
        for run in range(RUNS):
            group.create_task(write(agents, run, written))
        group.create_task(harm(written))
    for run, following in enumerate(followings):
        offsets = [event.offset for event in following.events]
        assert offsets == sorted(set(offsets)), "a follower of one writer got something twice or out of order"
        assert text_of(following.events) == whole(run)
        assert text_of(await stored(following.session)) == whole(run)
        assert text_of(await stored(following.session, deltas="all")) == whole(run)


async def half_way(written: list[int], part: float = 0.5) -> None:
    await eventually(lambda: sum(written) > part * RUNS * TOKENS, 60)


async def test_a_broker_killed_under_writers_and_followers_costs_nothing(own_server: NatsNode, tenant: str) -> None:
    async def harm(written: list[int]) -> None:
        for part in (0.2, 0.6):
            await half_way(written, part)
            own_server.kill()
            await own_server.restart()

    async with (
        Fabric.connect(own_server.url, tenant=tenant, participant="agent:a", streams=4) as agents,
        Fabric.connect(own_server.url, tenant=tenant, participant="user:u", streams=4) as viewers,
    ):
        await survive(agents, viewers, harm)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop", "step down"])
async def test_a_leader_that_goes_under_writers_and_followers_costs_nothing(
    shared_cluster: NatsCluster, tenant: str, how: str
) -> None:
    async with (
        Fabric.connect(shared_cluster.url, tenant=tenant, participant="agent:a", streams=4) as agents,
        Fabric.connect(shared_cluster.url, tenant=tenant, participant="user:u", streams=4) as viewers,
    ):
        stream = f"{STREAM_PREFIX}00"

        async def harm(written: list[int]) -> None:
            await half_way(written, 0.3)
            leader = await eventually(lambda: shared_cluster.stream_leader(stream))
            if how == "kill":
                leader.kill()
            elif how == "stop":
                leader.stop()
            else:
                # As many as there are: whoever came first to this cluster said how many.
                for found in api(viewers).topology.streams:
                    await api(viewers).api.call(f"STREAM.LEADER.STEPDOWN.{found.name}")

        try:
            await survive(agents, viewers, harm)
        finally:
            await shared_cluster.restart()
