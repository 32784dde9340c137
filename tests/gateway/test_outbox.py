"""What is due leaves at the end of a tick, or at once where whoever delivers has delivered all."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from session_fabric import Fabric
from session_fabric.follow import Pace
from session_fabric_gateway.outbox import Outbox, Sender

from tests.gateway.conftest import Start
from tests.gateway.sockets import greeted
from tests.support.sessions import note


class Box:
    """What a sender sees of an outbox."""

    def __init__(self) -> None:
        self.flushed = 0

    def flush(self) -> int:
        self.flushed += 1
        return 1


async def test_what_is_due_leaves_once_a_tick() -> None:
    sender, boxes = Sender(), [Box() for _ in range(3)]
    for box in boxes:
        sender.due(cast(Outbox, box))
    assert [box.flushed for box in boxes] == [0, 0, 0]
    await asyncio.sleep(0)
    assert [box.flushed for box in boxes] == [1, 1, 1]


async def test_what_is_sent_before_the_end_of_the_tick_is_not_sent_again() -> None:
    sender, box = Sender(), Box()
    sender.due(cast(Outbox, box))
    sender.send()
    assert box.flushed == 1
    await asyncio.sleep(0)
    assert (box.flushed, sender.writes) == (1, 1)


async def test_of_very_many_some_leave_in_each_turn() -> None:
    sender, boxes = Sender(), [Box() for _ in range(600)]
    for box in boxes:
        sender.due(cast(Outbox, box))
    for expected in (256, 512, 600):
        sender.send() if expected == 256 else await asyncio.sleep(0)
        assert sum(box.flushed for box in boxes) == expected


async def test_what_is_live_does_not_wait_for_the_end_of_the_tick(
    start: Start, agent: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody is closed for silence meanwhile, which would be sent what is due.
    async with start(heartbeat_s=30) as house, greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        await ada.op("live")
        monkeypatch.setattr(Sender, "_at_the_end", lambda _: None)
        monkeypatch.setattr(Pace, "due", lambda pace, follower: pace._due.append(follower))
        await agent.session("s1").append(note("hello"))
        await ada.until_events(lambda events: any(each["body"] == note("hello") for each in events))
