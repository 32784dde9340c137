"""A start that lasts: whoever asks meanwhile hears that the process lives, from the first try on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import aiohttp
import pytest
from session_fabric.words.errors import BrokerUnavailable
from session_fabric_gateway.app import bind, url_of
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.starting import patiently
from structlog.testing import capture_logs

from tests.support.waiting import eventually


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with closing(bind("127.0.0.1", 0)) as sock:
        yield sock


async def asked(sock: socket.socket, path: str) -> tuple[int, str]:
    """Ask as often as nobody is there."""
    told: list[tuple[int, str]] = []

    async def answered() -> bool:
        async with aiohttp.ClientSession(url_of(sock)) as http:
            try:
                async with http.get(path) as response:
                    value = await response.json(content_type=None)
            except aiohttp.ClientConnectionError:
                return False
        told.append((response.status, value.get("code") or value.get("status")))
        return True

    await eventually(answered)
    return told[-1]


def waiting() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "lobby"]


async def test_the_process_is_seen_to_live_while_its_first_try_lasts(port: socket.socket) -> None:
    answers = asyncio.Event()

    @asynccontextmanager
    async def open() -> AsyncIterator[str]:
        await answers.wait()
        yield "opened"

    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            starting = asyncio.create_task(patiently(stack, open, Settings(), [port]))
            assert await asked(port, "/healthz") == (200, "ok")
            assert await asked(port, "/readyz") == (503, "broker_unavailable")
            answers.set()
            assert await starting == "opened"
            assert not waiting()
    told = [line["event"] for line in logs]
    assert [event for event in told if "broker" in event] == ["waiting_for_broker", "broker_is_ready"]


async def test_a_start_that_is_given_up_leaves_nobody_at_the_port(port: socket.socket) -> None:
    @asynccontextmanager
    async def open() -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(patiently(stack, open, Settings(), [port]))
        assert await asked(port, "/healthz") == (200, "ok")
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not waiting()


async def test_what_is_missing_is_told_as_soon_as_it_is_known_and_the_start_is_tried_again(port: socket.socket) -> None:
    tries = asyncio.Semaphore(0)

    @asynccontextmanager
    async def open() -> AsyncIterator[int]:
        if tries.locked():
            raise BrokerUnavailable("It is out for lunch.")
        yield 1

    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(patiently(stack, open, Settings(), [port]))
        assert await asked(port, "/readyz") == (503, "broker_unavailable")
        async with aiohttp.ClientSession(url_of(port)) as http, http.get("/readyz") as response:
            assert "out for lunch" in await response.text()
        tries.release()
        assert await starting == 1
