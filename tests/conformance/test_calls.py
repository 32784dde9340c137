"""Requests to live processes, and news of connections that end."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from session_fabric.ports import Broker, Departure
from session_fabric.words.errors import BrokerUnavailable, NobodyAnswers

from tests.support.brokers import Brokers, vanish
from tests.support.waiting import eventually


async def shout(data: bytes) -> bytes:
    return data.upper()


async def reached(broker: Broker, name: str) -> None:
    """Return when a name answers: in a cluster another node hears a moment later that it is served."""

    async def answers() -> bool:
        with suppress(NobodyAnswers):
            await broker.calls.ask(name, b"?", timeout_s=5)
            return True
        return False

    await eventually(answers)


async def nobody(broker: Broker, name: str) -> bool:
    """Say whether the broker knows by now that nobody answers; what it sends into a socket that ends is lost."""
    try:
        await broker.calls.ask(name, b"?", timeout_s=0.5)
    except NobodyAnswers:
        return True
    except BrokerUnavailable:
        pass
    return False


async def test_a_name_that_is_served_answers(broker: Broker, connections: Brokers, tenant: str) -> None:
    other = await connections.open()
    served = await other.calls.serve(f"echo.{tenant}.a/b", shout)
    await reached(broker, f"echo.{tenant}.a/b")
    assert await broker.calls.ask(f"echo.{tenant}.a/b", b"hello", timeout_s=5) == b"HELLO"
    assert await other.calls.ask(f"echo.{tenant}.a/b", b"too", timeout_s=5) == b"TOO"
    await served.close()


async def test_a_name_that_nobody_serves_is_known_at_once(broker: Broker, tenant: str) -> None:
    begun = time.monotonic()
    with pytest.raises(NobodyAnswers, match="nobody-here"):
        await broker.calls.ask(f"echo.{tenant}.nobody-here", b"", timeout_s=30)
    assert time.monotonic() - begun < 20


async def test_a_name_that_is_served_no_more_has_nobody(broker: Broker, tenant: str) -> None:
    served = await broker.calls.serve(f"echo.{tenant}", shout)
    assert await broker.calls.ask(f"echo.{tenant}", b"x", timeout_s=5) == b"X"
    await served.close()
    with pytest.raises(NobodyAnswers):
        await broker.calls.ask(f"echo.{tenant}", b"x", timeout_s=5)


async def test_a_connection_that_was_closed_answers_to_nothing_any_more(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    other = await connections.open()
    await other.calls.serve(f"echo.{tenant}", shout)
    await reached(broker, f"echo.{tenant}")
    await other.close()
    await eventually(lambda: nobody(broker, f"echo.{tenant}"), 5)


async def test_one_who_is_closed_cannot_ask(connections: Brokers, tenant: str) -> None:
    other = await connections.open()
    served = await other.calls.serve(f"echo.{tenant}", shout)
    await other.close()
    with pytest.raises(BrokerUnavailable):
        await other.calls.ask(f"echo.{tenant}", b"x", timeout_s=5)
    await served.close()


async def test_requests_are_answered_beside_each_other_and_256_at_once(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    under_way = 0
    enough = asyncio.Event()

    async def wait(data: bytes) -> bytes:
        nonlocal under_way
        if data == b"?":
            return data
        under_way += 1
        await enough.wait()
        return data

    served = await (await connections.open()).calls.serve(f"many.{tenant}", wait)
    await reached(broker, f"many.{tenant}")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(broker.calls.ask(f"many.{tenant}", b"%d" % n, timeout_s=20)) for n in range(256)]
        await eventually(lambda: under_way == 256)
        with pytest.raises(BrokerUnavailable):
            await broker.calls.ask(f"many.{tenant}", b"one more", timeout_s=0.2)
        enough.set()
    assert [task.result() for task in asked] == [b"%d" % n for n in range(256)]
    assert under_way == 256
    assert await broker.calls.ask(f"many.{tenant}", b"later", timeout_s=5) == b"later"
    await served.close()


async def test_an_answer_under_way_goes_on_when_nobody_waits_for_it_and_ends_with_its_name(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(data: bytes) -> bytes:
        if data == b"?":
            return data
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return data

    served = await (await connections.open()).calls.serve(f"work.{tenant}", work)
    await reached(broker, f"work.{tenant}")
    asking = asyncio.create_task(broker.calls.ask(f"work.{tenant}", b"", timeout_s=20))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await broker.ping()
    assert not ended.is_set()
    await served.close()
    assert ended.is_set()


async def test_an_answer_that_does_not_come_is_not_waited_for_without_end(broker: Broker, tenant: str) -> None:
    asked = asyncio.Event()

    async def forget(data: bytes) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return data

    served = await broker.calls.serve(f"slow.{tenant}", forget)
    with pytest.raises(BrokerUnavailable):
        await broker.calls.ask(f"slow.{tenant}", b"", timeout_s=0.2)
    assert asked.is_set()
    await served.close()


async def test_an_answer_that_fails_is_none(broker: Broker, tenant: str) -> None:
    async def fail(data: bytes) -> bytes:
        raise RuntimeError("no")

    served = await broker.calls.serve(f"failing.{tenant}", fail)
    with pytest.raises(BrokerUnavailable):
        await broker.calls.ask(f"failing.{tenant}", b"", timeout_s=0.2)
    await served.close()


@pytest.mark.needs_rights
async def test_a_process_that_is_gone_answers_to_nothing_and_its_departure_is_heard(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    departed: list[Departure] = []
    hearing = await broker.on_departure(departed.append)
    other = await connections.open()
    await other.calls.serve(f"echo.{tenant}", shout)
    await reached(broker, f"echo.{tenant}")
    await vanish(other)
    await eventually(lambda: Departure(other.holder, closed=True) in departed)
    await eventually(lambda: nobody(broker, f"echo.{tenant}"), 5)
    assert broker.holder not in [each.holder for each in departed]
    await hearing.close()


async def test_each_connection_has_a_name_of_its_own(broker: Broker, connections: Brokers) -> None:
    assert len({broker.holder, (await connections.open()).holder, (await connections.open()).holder}) == 3
