"""One socket with a lane for each tab: what a lane is to all others, and what it is not to its neighbours."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import EofStream, WSMsgType
from session_fabric import Fabric
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import revocation
from session_fabric.words.names import new_id
from session_fabric_gateway import outbox
from session_fabric_gateway.lanes import LaneOutbox

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import Client, Frame, close_code, greeted
from tests.support.waiting import eventually

LANES = "session-fabric.v1.lanes"


class Lane(Client):
    """What a client sees of one lane."""

    def __init__(self, trunk: Trunk, number: int) -> None:
        super().__init__(trunk.socket)
        self.trunk = trunk
        self.number = number
        self.came: list[str] = []

    async def next(self, timeout_s: float = 10.0) -> Any:
        while not self.came:
            await self.trunk.read(timeout_s)
        frame = json.loads(self.came.pop(0))
        if not isinstance(frame, str):
            self.events += self._expander.events(frame)
        return frame

    async def send(self, **frame: Any) -> None:
        await self.trunk.send(self.number, json.dumps(frame))

    async def word(self, word: str) -> None:
        await self.trunk.send(self.number, json.dumps(word))

    async def over(self) -> int:
        """Return the code with which the gateway ends this lane."""
        word: str = await self.until(lambda frame: isinstance(frame, str))
        return int(word.partition(" ")[0])


class Trunk:
    """The socket, and its lanes by number."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.lanes: dict[int, Lane] = {}
        self._from = 0

    def lane(self) -> Lane:
        number = len(self.lanes) + 1
        self.lanes[number] = Lane(self, number)
        return self.lanes[number]

    async def send(self, number: int, text: str) -> None:
        await self.socket.send_str(str(number))
        await self.socket.send_str(text)

    async def closed(self) -> int | None:
        """Return the code with which the gateway closes now, with nothing before."""
        return close_code(self.socket, await self.socket.receive(timeout=10.0))

    async def read(self, timeout_s: float = 10.0) -> None:
        message = await self.socket.receive(timeout=timeout_s)
        assert message.type is WSMsgType.TEXT, f"closed with {close_code(self.socket, message)}"
        if message.data.isdigit():
            self._from = int(message.data)
        else:
            self.lanes[self._from].came.append(message.data)


@asynccontextmanager
async def trunk(url: str, **more: Any) -> AsyncIterator[Trunk]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/v1/ws", protocols=(LANES, "session-fabric.v1"), max_msg_size=0, **more) as socket,
    ):
        assert socket.protocol == LANES
        yield Trunk(socket)


def count(house: Running, name: str) -> float:
    value = house.gateway.metrics.registry.get_sample_value(
        f"session_fabric_gateway_{name}", {"transport": "websocket"} if name == "connections" else {}
    )
    assert value is not None
    return value


def says(text: str) -> Callable[[list[Frame]], bool]:
    return lambda events: any(event["body"].get("text") == text for event in events)


def note(text: str) -> Frame:
    return {"type": "app.note", "text": text}


async def test_two_tabs_have_one_session_open_over_one_socket_each_from_where_it_is(house: Running) -> None:
    name = new_id("s")
    async with trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        assert (await one.hello(house.token(), device="tab-1"))["participant"] == "user:ada"
        first = await one.append(name, note("first"))
        await one.append(name, note("second"))
        await two.hello(house.token(), device="tab-2")
        await one.open(name, after="start", presence={})
        await two.open(name, after=first["offset"], presence={})
        assert (count(house, "connections"), count(house, "lanes")) == (1, 2)
        assert house.gateway.told()["connections"] == 1
        await two.append(name, note("third"))
        for lane, texts in ((one, ["first", "second", "third"]), (two, ["second", "third"])):
            events = await lane.until_events(says("third"))
            assert [event["body"]["text"] for event in events if event["type"] == "app.note"] == texts

        async def both() -> bool:
            members = (await one.ask("who", session=name))["members"]
            return {member["device"] for member in members} == {"tab-1", "tab-2"}

        await eventually(both)
    await eventually(lambda: (count(house, "connections"), count(house, "lanes")) == (0, 0))


async def test_what_is_not_stored_goes_from_tab_to_tab_and_not_back(house: Running) -> None:
    name = new_id("s")
    async with trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        for lane in (one, two):
            await lane.hello(house.token())
            await lane.open(name, after="tail")
            await lane.op("live")
        await one.send(op="signal", session=name, body={"typing": True})
        assert (await two.op("signal"))["body"] == {"typing": True}
        assert (await one.ask("ping"))["op"] == "pong"
        assert not [frame for frame in one.frames if isinstance(frame, dict) and frame["op"] == "signal"]


async def test_a_tab_that_leaves_is_gone_and_the_others_stay(house: Running) -> None:
    name = new_id("s")
    async with trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        for lane in (one, two):
            await lane.hello(house.token(), device=f"tab-{lane.number}")
            await lane.open(name, after="tail", presence={})
        await one.word("leave")
        left = await two.until_events(lambda events: any(event["type"] == "presence.left" for event in events))
        assert left[-1]["body"]["device"] == "tab-1"
        assert (await two.append(name, note("still here")))["op"] == "appended"
        await one.send(op="ping", id=1)  # under way when it left: nobody's
        assert (await two.ask("ping"))["op"] == "pong"
        assert count(house, "lanes") == 1


async def test_a_token_ends_its_own_tabs_lane_alone(house: Running) -> None:
    async with trunk(house.url) as shared:
        one, two, three = shared.lane(), shared.lane(), shared.lane()
        await one.hello(house.token(expires_in_s=1))
        await two.hello(house.token())
        assert await one.over() == 4410
        await three.hello(house.token())
        for lane in (two, three):
            assert (await lane.ask("ping"))["op"] == "pong"


async def test_a_token_that_is_revoked_ends_the_lanes_that_have_it(house: Running, agent: Fabric) -> None:
    at = int(time.time()) - 60
    async with trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        await one.hello(house.token(jti="t1", iat=at))
        await two.hello(house.token(jti="t2", iat=at))
        now_ms = time.time_ns() // 1_000_000
        wanted = revocation(agent.tenant, "token", "t1", now_ms=now_ms, for_s=600)
        await revoke(agent.broker, wanted, by="operator:ann", now_ms=now_ms)
        assert await one.over() == 4412
        assert (await two.ask("ping"))["op"] == "pong"


@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_a_tab_needs_a_token_of_its_own(house: Running, token: str | None) -> None:
    async with trunk(house.url, headers={"Authorization": f"Bearer {house.token()}"}) as shared:
        one, two = shared.lane(), shared.lane()
        await one.hello(house.token())
        await two.send(op="hello", **({} if token is None else {"token": token}))
        assert (await two.op("error"))["code"] == "unauthenticated"
        assert await two.over() == 4501
        assert (await one.ask("ping"))["op"] == "pong"


@pytest.mark.parametrize("other", [{"participant": "user:bob"}, {"tenant": "another"}])
async def test_participants_never_share_a_socket(house: Running, other: dict[str, str]) -> None:
    async with trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        await one.hello(house.token())
        await two.send(op="hello", token=house.token(**other))
        assert await two.over() == 4414
        assert (await one.ask("ping"))["op"] == "pong"


async def test_a_tab_that_takes_no_more_is_caught_up_later_and_holds_nobody_up(house: Running) -> None:
    name = new_id("s")
    async with trunk(house.url) as shared, greeted(house.url, house.token()) as writer:
        slow, quick = shared.lane(), shared.lane()
        for lane in (slow, quick):
            await lane.hello(house.token())
            await lane.open(name, after="start")
            await lane.op("live")
        await slow.word("hold")
        assert (await quick.ask("ping"))["op"] == "pong"  # behind it on the wire: the hold has been heard
        for number in range(50):
            await writer.append(name, note(str(number)))
        await quick.until_events(says("49"))
        assert not [event for event in slow.events if event["type"] == "app.note"]
        assert not [text for text in slow.came if "app.note" in text]
        await slow.word("go")
        events = await slow.until_events(says("49"))
        got = [event["body"]["text"] for event in events if event["type"] == "app.note"]
        assert got == [str(number) for number in range(50)]


async def test_a_tab_that_takes_no_more_for_too_long_is_let_go(start: Start) -> None:
    async with start(stalled_s=0.5) as house, trunk(house.url) as shared:
        slow, quick = shared.lane(), shared.lane()
        for lane in (slow, quick):
            await lane.hello(house.token())
        await slow.word("hold")
        assert await slow.over() == 4408
        assert (await quick.ask("ping"))["op"] == "pong"


async def test_a_tab_that_takes_nothing_and_sends_on_is_let_go(house: Running) -> None:
    async with trunk(house.url) as shared:
        slow, quick = shared.lane(), shared.lane()
        for lane in (slow, quick):
            await lane.hello(house.token())
        await slow.word("hold")
        for _ in range(1_200):
            await shared.socket.send_str('{"op":"ping"}')
        assert await slow.over() == 4408
        assert (await quick.ask("ping"))["op"] == "pong"


async def test_a_lane_without_hello_is_closed_and_so_is_a_socket_without_lanes(start: Start) -> None:
    async with start(hello_s=0.3) as house, trunk(house.url) as shared:
        one = shared.lane()
        await one.send(op="ping", id=1)
        assert await one.over() == 4500
        assert await shared.closed() == 4500


async def test_a_message_that_is_no_lanes_closes_the_socket(house: Running) -> None:
    async with trunk(house.url) as shared:
        await shared.socket.send_str('{"op":"hello"}')
        assert await shared.closed() == 4502


async def test_a_tab_that_has_left_sends_nothing_behind_the_close_of_its_socket(
    house: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        await one.hello(house.token())
        came = shared.socket._reader  # aiohttp's own client takes nothing behind a close
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "_WRITES_A_TURN", 0)  # others have theirs first
            await two.send(op="hello", token=house.token())
            await eventually(lambda: any(isinstance(box, LaneOutbox) for box in house.gateway.sender._due))
            await two.word("leave")
            await eventually(lambda: count(house, "lanes") == 1)
            await shared.socket.send_bytes(b"\0")
            while (await came.read()).type is not WSMsgType.CLOSE:
                pass
        with pytest.raises(EofStream):
            raise AssertionError(await came.read())


async def test_a_socket_has_at_most_a_hundred_lanes(house: Running) -> None:
    async with trunk(house.url) as shared:
        lanes = [shared.lane() for _ in range(101)]
        for lane in lanes:
            await shared.socket.send_str(str(lane.number))
        assert await lanes[-1].over() == 4411
        await lanes[0].hello(house.token())


async def test_bad_tokens_are_counted_however_many_lanes_they_come_by(start: Start) -> None:
    async with start(limit=["address.requests=0.01/3"]) as house, trunk(house.url) as shared:
        for _ in range(3):
            lane = shared.lane()
            await lane.send(op="hello", token="guessed")
            assert await lane.over() == 4501
        lane = shared.lane()
        await lane.send(op="hello", token=house.token())
        assert await lane.over() == 4411


async def test_a_gateway_that_stops_sends_every_lane_elsewhere(start: Start) -> None:
    async with start() as house, trunk(house.url) as shared:
        one, two = shared.lane(), shared.lane()
        for lane in (one, two):
            await lane.hello(house.token())
        house.gateway.begin_drain()
        for lane in (one, two):
            assert (await lane.op("moved"))["after_ms"] >= 0
        while (last := await shared.socket.receive(timeout=10.0)).type is WSMsgType.TEXT:
            pass  # each lane may be told before
        assert close_code(shared.socket, last) == 1001
