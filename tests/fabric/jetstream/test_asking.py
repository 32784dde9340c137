"""Requests with one answer: what comes of them when it does not come, and that nothing of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Lost, Nobody, NotLet, Requests

from tests.support.servers import NatsNode
from tests.support.waiting import eventually


@pytest.fixture
async def connection(shared_server: NatsNode) -> AsyncIterator[Connection]:
    connection = Connection()
    await connection.connect(shared_server.url)
    yield connection
    await connection.close()


@pytest.fixture
async def requests(connection: Connection) -> Requests:
    requests = Requests(connection)
    await requests.open()
    return requests


def nothing_left(requests: Requests) -> bool:
    return not requests._asked


async def test_each_of_many_at_once_gets_its_own_answer(connection: Connection, requests: Requests) -> None:
    async def answer(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        await connection.publish(reply.decode(), payload[::-1] + head)

    tasks: list[asyncio.Task[None]] = []
    await connection.tap_now("asked.twice", lambda *message: tasks.append(asyncio.create_task(answer(*message))))
    asked = [f"question {n}".encode() for n in range(100)]
    answers = await asyncio.gather(*(requests.one("asked.twice", q, headers={"A": "b"}, timeout_s=5) for q in asked))
    assert [one.payload for one in answers] == [q[::-1] + b"NATS/1.0\r\nA: b\r\n\r\n" for q in asked]
    assert nothing_left(requests)


async def test_no_answer_is_lost_after_its_time(connection: Connection, requests: Requests) -> None:
    await connection.tap_now("heard.by.nobody", lambda *_: None)
    with pytest.raises(Lost, match=r"within 0.05 s"):
        await requests.one("heard.by.nobody", b"", timeout_s=0.05)
    with pytest.raises(Nobody):
        await requests.one("nobody.listens", b"", timeout_s=5)
    assert nothing_left(requests)


async def test_each_is_given_up_when_its_own_time_is_up(connection: Connection, requests: Requests) -> None:
    await connection.tap_now("never.c", lambda *_: None)
    ended: list[float] = []

    async def ask(timeout_s: float) -> None:
        with pytest.raises(Lost):
            await requests.one("never.c", b"", timeout_s=timeout_s)
        ended.append(timeout_s)

    await asyncio.gather(*(ask(timeout_s) for timeout_s in (0.4, 0.05, 0.2)))
    assert ended == [0.05, 0.2, 0.4]
    assert nothing_left(requests)


async def test_a_cancelled_request_leaves_nothing(connection: Connection, requests: Requests) -> None:
    await connection.tap_now("never", lambda *_: None)
    asking = asyncio.create_task(requests.one("never", b"", timeout_s=60))
    await eventually(lambda: not nothing_left(requests))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert nothing_left(requests)


async def test_what_ends_all_requests_ends_it(connection: Connection, requests: Requests) -> None:
    await connection.tap_now("never.b", lambda *_: None)
    for end, kind in (
        (lambda: requests.fail_all("it broke"), Lost),
        (lambda: requests.forbid("publish to", "never.b"), NotLet),
    ):
        asking = asyncio.create_task(requests.one("never.b", b"", timeout_s=60))
        await eventually(lambda: not nothing_left(requests))
        end()
        with pytest.raises(kind):
            await asking
        assert nothing_left(requests)


async def test_who_may_not_listen_is_told_at_once(requests: Requests) -> None:
    requests.forbid("subscribe to", requests._inbox)
    with pytest.raises(NotLet):
        await requests.one("anything", b"", timeout_s=60)
    assert nothing_left(requests)
