"""Sessions with life in them as browsers see it: whole processes, real sockets, and things that die."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from session_fabric.rules.routing import run_of_input

from tests.gateway.conftest import SECRET, Running
from tests.gateway.processes import GatewayProcess, gateway_process
from tests.gateway.sockets import Client, Frame, greeted, user_message
from tests.support.link import Link
from tests.support.servers import NatsNode
from tests.system.agent import answer

ROOT = Path(__file__).parents[2]
TOKENS = 1500
SESSION = "chat-1"


@asynccontextmanager
async def child(node: NatsNode, tenant: str, module: str, *arguments: str) -> AsyncIterator[Process]:
    """Run a worker of the default pool."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.system.{module}", node.url, tenant, *arguments, stdout=PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class House:
    """A gateway process that can be killed and started again, and sockets to it."""

    def __init__(self, node: NatsNode, tenant: str, directory: Path, stack: AsyncExitStack) -> None:
        self._node = node
        self._directory = directory
        self._stack = stack
        self._tokens = Running(None, "", tenant)  # type: ignore[arg-type]  # for its tokens alone
        self.gateway: GatewayProcess

    async def start(self, *options: str) -> None:
        # Sockets that a test does not read for a while do not answer pings either.
        options = options or ("--heartbeat", "60")
        started = gateway_process(self._node.url, self._directory, "--dev-secret", SECRET, "--drain", "0", *options)
        self.gateway = await self._stack.enter_async_context(started)

    async def kill(self) -> None:
        self.gateway.process.kill()
        await self.gateway.ended()

    @asynccontextmanager
    async def device(self, who: str, *, url: str | None = None, **hello: Any) -> AsyncIterator[Client]:
        """Connect and open the session."""
        async with greeted(url or self.gateway.url, self._tokens.token(who), **hello) as client:
            await client.open(SESSION, presence={})
            await client.op("live")
            yield client


@pytest.fixture
async def house(shared_server: NatsNode, tenant: str, tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        one = House(shared_server, tenant, tmp_path, stack)
        await one.start()
        yield one


def of(client: Client, *types: str) -> list[Frame]:
    return [event for event in client.events if event["type"] in types]


async def has(client: Client, type: str, count: int = 1, timeout_s: float = 30.0) -> Frame:
    """Wait for an event of a type; return it."""
    await client.until_events(lambda _: len(of(client, type)) >= count, timeout_s)
    return of(client, type)[count - 1]


def text_of(client: Client) -> str:
    """Put a message together from what came, each piece at its place: what came twice would show."""
    text = ""
    for event in of(client, "TEXT_MESSAGE_CONTENT"):
        assert event["at"] == len(text.encode("utf-16-le")) // 2, "a piece was lost, or came twice"
        text += event["body"]["delta"]
    return text


async def test_every_socket_hears_of_a_killed_agent_and_gets_the_whole_answer_from_the_next(
    house: House, shared_server: NatsNode, tenant: str
) -> None:
    async with (
        house.device("user:ada") as ada,
        house.device("user:bob") as bob,
        house.device("operator:eve", deltas="compact") as eve,
        child(shared_server, tenant, "worker", str(TOKENS)) as first,
    ):
        await ada.append(SESSION, user_message("count"), id="q1")
        await bob.until_events(lambda _: len(of(bob, "TEXT_MESSAGE_CONTENT")) > 20)
        first.send_signal(signal.SIGKILL)
        async with child(shared_server, tenant, "worker", str(TOKENS)):
            for one, ended in zip(
                (ada, bob, eve),
                await asyncio.gather(*(has(one, "RUN_FINISHED") for one in (ada, bob, eve))),
                strict=True,
            ):
                assert ended["run"] == run_of_input("q1")
                life = [e["type"] for e in one.events if e["type"].startswith(("RUN_", "run."))]
                assert life == ["RUN_STARTED", "run.orphaned", "run.taken_over", "RUN_FINISHED"]
                assert text_of(one) == answer(TOKENS)
                told = [frame for frame in one.frames if isinstance(frame, dict)]
                away = [frame for frame in told if frame["op"] == "agent"]
                assert [(frame["run"], frame["connected"]) for frame in away] == [(run_of_input("q1"), False)]
                orphaned = next(frame for frame in told if "run.orphaned" in str(frame))
                assert told.index(away[0]) < told.index(orphaned)
        async with house.device("user:late") as late:
            completed = await has(late, "message.completed")
            assert completed["body"]["message"]["content"] == answer(TOKENS)


async def test_a_stop_from_a_socket_stops_the_agent_and_all_see_it(
    house: House, shared_server: NatsNode, tenant: str
) -> None:
    async with (
        child(shared_server, tenant, "asker"),
        house.device("user:ada") as ada,
        house.device("user:bob") as bob,
    ):
        await ada.append(SESSION, user_message("wait"), id="q1")
        await has(bob, "TEXT_MESSAGE_CONTENT")
        run = run_of_input("q1")
        asked = await bob.ask("control", session=SESSION, run=run, action="cancel", event="c1")
        assert asked["op"] == "appended"
        for one in (ada, bob):
            assert (await has(one, "control.accepted"))["body"]["request"] == "c1"
            assert (await has(one, "RUN_FINISHED"))["body"]["outcome"] == {"type": "cancelled"}
        refused = await ada.ask("control", session=SESSION, run=run, action="cancel")
        assert (refused["op"], refused["code"]) == ("error", "run_closed")


async def test_of_two_who_answer_at_once_one_counts_and_the_other_is_told_whose(
    house: House, shared_server: NatsNode, tenant: str
) -> None:
    async with (
        child(shared_server, tenant, "asker"),
        house.device("user:ada") as ada,
        house.device("operator:eve") as eve,
        house.device("operator:max") as max,
    ):
        for number in range(1, 21):
            await ada.append(SESSION, user_message("refund", f"m{number}"), id=f"q{number}")
            request = (await has(eve, "input.requested", number))["body"]["request"]
            answers = await asyncio.gather(
                *(
                    one.ask("answer", session=SESSION, request=request, body={"approved": yes})
                    for one, yes in ((eve, True), (max, False))
                )
            )
            won = ("operator:eve", "operator:max")[[a["op"] for a in answers].index("answered")]
            (lost,) = (a for a in answers if a["op"] == "error")
            assert (lost["code"], lost["by"]) == ("already_answered", won)
            finished = await has(ada, "RUN_FINISHED", number)
            said = next(e for e in reversed(of(ada, "message.completed")) if e["run"] == finished["run"])
            expected = "Refunded" if won == "operator:eve" else "Refused"
            assert said["body"]["message"]["content"] == f"{expected} by {won}"


async def test_an_answer_outlives_the_gateway_and_the_agent_that_asked(
    house: House, shared_server: NatsNode, tenant: str
) -> None:
    async with child(shared_server, tenant, "asker") as first:
        async with house.device("user:ada") as ada:
            await ada.append(SESSION, user_message("refund"), id="q1")
            request = (await has(ada, "input.requested"))["body"]["request"]
        await house.kill()
        await house.start()
        first.send_signal(signal.SIGKILL)
        await first.wait()
        async with house.device("operator:eve") as eve:
            await has(eve, "run.orphaned")
            answered = await eve.ask("answer", session=SESSION, request=request, body={"approved": True})
            assert answered["op"] == "answered"
            async with child(shared_server, tenant, "asker"):
                assert (await has(eve, "RUN_FINISHED"))["run"] == run_of_input("q1")
            assert len(of(eve, "input.requested")) == 1
            assert of(eve, "message.completed")[-1]["body"]["message"]["content"] == "Refunded by operator:eve"


async def test_the_floor_goes_to_a_person_and_back_although_the_gateway_is_killed_between(
    house: House, shared_server: NatsNode, tenant: str
) -> None:
    async with child(shared_server, tenant, "asker"):
        async with house.device("user:ada") as ada, house.device("operator:eve") as eve:
            await ada.append(SESSION, user_message("wait"), id="q1")
            await has(ada, "TEXT_MESSAGE_CONTENT")
            assert (await eve.ask("floor.take", session=SESSION))["floor"]["participant"] == "operator:eve"
            assert (await has(ada, "RUN_FINISHED"))["body"]["outcome"]["type"] != "success"
        await house.kill()
        await house.start()
        async with house.device("user:ada") as ada, house.device("operator:eve") as eve:
            assert (await ada.ask("floor", session=SESSION))["floor"]["participant"] == "operator:eve"
            said = await eve.ask("say", session=SESSION, message={"id": "m9", "content": "Eve here."})
            assert said["op"] == "appended"
            await ada.append(SESSION, user_message("refund", "m2"), id="q2")
            assert (await eve.ask("floor.return", session=SESSION))["floor"]["participant"] is None
            refused = await eve.ask("say", session=SESSION, message={"id": "m10", "content": "Still me?"})
            assert refused["code"] == "not_holder"
            await ada.append(SESSION, user_message("refund", "m3"), id="q3")
            request = (await has(eve, "input.requested"))["body"]
            assert request["run"] == run_of_input("q3")  # what was asked of the person is the person's


async def test_a_device_that_vanishes_without_a_word_has_left_for_the_others(house: House) -> None:
    await house.kill()
    await house.start("--heartbeat", "1")
    async with house.device("user:bob") as bob:
        link = Link(int(house.gateway.url.rpartition(":")[2]))
        await link.start()
        try:
            async with house.device("user:ada", url=link.url, device="phone") as ada:
                members = (await bob.ask("who", session=SESSION))["members"]
                assert {m["participant"] for m in members} == {"user:ada", "user:bob"}
                link.swallow()
                left = await has(bob, "presence.left")
                assert (left["body"]["participant"], left["body"]["device"]) == ("user:ada", "phone")
                members = (await bob.ask("who", session=SESSION))["members"]
                assert {m["participant"] for m in members} == {"user:bob"}
                link.cut()
                await ada.closed()
        finally:
            await link.stop()
