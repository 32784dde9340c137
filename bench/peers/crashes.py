"""Agents that die, and machines that vanish: how long until a viewer of theirs is told."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from abc import abstractmethod
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

from bench.agents import LOADED
from bench.peers.crowd import come
from bench.peers.peer import Crashed, Peer, Way
from bench.sockets import read_until
from tests.support.link import link_to

_PATIENCE_S: Final = 10.0


class Telling(Peer):
    """A peer whose server knows of an agent by its connection, and can tell viewers when that has ended."""

    @abstractmethod
    def agent(self, topic: str) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        """Return how an agent connects (port, turns), and what viewers of the topic read when it is gone."""

    def crash(self, times: int) -> Crashed:
        took = []
        for number in range(times):
            topic = f"crash-{number}-{time.monotonic_ns()}"
            port, turns, gone = self.agent(topic)
            agent = _Agent(Way(port, turns))
            viewer, heard = come(self.way(topic, f"v-{topic}"))
            viewer.settimeout(_PATIENCE_S)
            began = time.perf_counter()
            agent.kill()
            read_until(viewer, heard, gone)
            took.append(time.perf_counter() - began)
            viewer.close()
        return Crashed(took)

    def vanish(self, patience_s: float) -> float | None:
        return asyncio.run(_vanish(self, patience_s))


class _Agent:
    """A process with an agent's connection, and as much in its memory as ours has: it is ended no sooner."""

    def __init__(self, way: Way) -> None:
        ours, theirs = LOADED.Pipe()
        self._process = LOADED.Process(target=_hold, args=(way, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not ours.poll(_PATIENCE_S):
            raise RuntimeError("an agent did not start")
        ours.recv()

    def kill(self) -> None:
        self._process.kill()


def _hold(way: Way, pipe: Connection) -> None:
    held, _ = come(way)
    pipe.send(held.fileno())
    signal.pause()


async def _vanish(peer: Telling, patience_s: float) -> float | None:
    topic = f"vanish-{time.monotonic_ns()}"
    port, turns, gone = peer.agent(topic)
    async with link_to(port) as link:
        agent = await asyncio.to_thread(_come, link.port, turns)
        viewer, heard = await asyncio.to_thread(come, peer.way(topic, f"v-{topic}"))
        viewer.settimeout(patience_s)
        began = time.perf_counter()
        link.swallow()
        try:
            await asyncio.to_thread(read_until, viewer, heard, gone)
        except TimeoutError:
            return None
        finally:
            viewer.close()
            agent.close()
        return time.perf_counter() - began


def _come(port: int, turns: Sequence[tuple[bytes, bytes]]) -> socket.socket:
    return come(Way(port, turns))[0]
