"""What is left of a connecting that ends before it is done."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric.counting import NoMetrics
from session_fabric.words.measures import Gauge

from tests.support.servers import NatsNode
from tests.support.sessions import api, note
from tests.support.waiting import eventually


class _GivesUp(NoMetrics):
    """Has whoever connects cancelled as soon as the connection is there."""

    def set(self, what: Gauge, number: float, value: str = "") -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


async def test_a_connecting_that_is_given_up_leaves_no_connection(own_server: NatsNode) -> None:
    async def connect() -> None:
        await Fabric.connect(own_server.url, streams=1, metrics=_GivesUp())

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(connect())
    assert own_server.monitor("/varz")["total_connections"] > 0
    await eventually(lambda: own_server.monitor("/connz")["num_connections"] == 0)


async def test_a_connecting_that_is_given_up_leaves_no_broker_of_its_own(tmp_path: Path) -> None:
    async def connect() -> None:
        await Fabric.connect(embedded=tmp_path, metrics=_GivesUp())

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(connect())
    async with Fabric.connect(embedded=tmp_path) as fabric:
        assert fabric.broker.connected


async def test_who_connects_asks_for_all_that_is_there_at_once(real: Fabric, shared_server: NatsNode) -> None:
    """One stream after the other, who is half a second away from the broker had not connected within 10 s."""
    connection, _ = api(real).reached()
    asked: list[str] = []
    number = await connection.tap_now("$JS.API.STREAM.INFO.>", lambda subject, *_: asked.append(subject))
    async with Fabric.connect(shared_server.url, tenant=real.tenant) as fabric:
        await fabric.session("chat-1").append(note(1))
    await connection.untap(number)
    assert len(asked) == 1, asked  # who may not is told so
