"""What is asked of a peer: servers, ways for viewers, writers. One file of this directory answers for each."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Protocol, runtime_checkable

import psutil

from bench.gateway import cpu_s

NODE: Final = Path(__file__).parent / "node"
# Where a viewer begins: with what comes next, or with all that is kept. Else: a place that `Peer.place` has read.
TAIL: Final = "tail"
START: Final = "start"


class Missing(Exception):
    """What a peer needs is not on this machine. The text says what, and where it is to be had."""


class Way(NamedTuple):
    """How a viewer comes to a topic: what it says and what it then waits for, in turns.

    `alive`: said now and then, unasked. `confirms`: MQTT's viewers confirm each message, by the two bytes before it.
    """

    port: int
    turns: Sequence[tuple[bytes, bytes]]
    alive: bytes = b""
    confirms: bool = False


class Crashed(NamedTuple):
    """Seconds from the end of each agent that was killed until a viewer was told of it; `settled`: until he was told
    what becomes of its run, where that is another thing."""

    seconds: Sequence[float]
    settled: Sequence[float] = ()


class Writer(Protocol):
    """An agent, or a back end, with connections of its own."""

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Write texts into topics, as many at a time as is usual there; return when all have been acknowledged."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class InTurn(Protocol):
    """A writer whose call costs more than it writes: a client library with an event loop of its own."""

    def write_in_turn(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Write texts, each acknowledged before the next."""
        ...


class Peer(ABC):
    """Servers that run while the `with` of `running` lasts.

    `client`: how `node view.mjs` calls it. `cannot`: rows that it does not do, and why.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    keeps: ClassVar[str]
    client: ClassVar[str]
    cannot: ClassVar[Mapping[str, str]] = {}
    # Rows that it is there for, where that is not all.
    only: ClassVar[Sequence[str]] = ()
    # Bytes that stand behind a text in its frame at least, where they say which place it has.
    trailer: ClassVar[int] = 0

    def __init__(self) -> None:
        self.processes: list[psutil.Process] = []

    @abstractmethod
    def running(self, directory: Path) -> AbstractContextManager[None]:
        """Start the servers; raise `Missing` where they are not to be had."""

    @abstractmethod
    def version(self) -> str: ...

    @property
    @abstractmethod
    def port(self) -> int:
        """Where viewers come."""

    def make(self, topics: Sequence[str]) -> None:  # noqa: B027 - most have nothing to do
        """Make topics where they have to be made before they are used."""

    @abstractmethod
    def way(self, topic: str, client: str, after: str = TAIL) -> Way: ...

    def place(self, heard: bytes) -> str:
        """Return from what a viewer has heard where it stands, to be given as `after` when it comes back."""
        raise NotImplementedError

    @abstractmethod
    def writer(self, topics: Sequence[str]) -> Writer: ...

    def appender(self, topics: Sequence[str]) -> Writer:
        """Return a writer of events that stay, rather than tokens."""
        return self.writer(topics)

    @contextmanager
    def taking_appends(self) -> Iterator[None]:
        """Have what takes appends serve: it has the core of who serves viewers, where that is another server."""
        yield

    @contextmanager
    def answering(self, topic: str, tokens: Sequence[bytes]) -> Iterator[None]:
        """Have an answer that is written so far, and goes on."""
        writer = self.writer([topic])
        try:
            for first in range(0, len(tokens), 100):
                writer.write([(topic, token) for token in tokens[first : first + 100]])
            yield
        finally:
            writer.close()

    def converse(self, topic: str, answers: Sequence[Sequence[bytes]]) -> None:
        """Write answers, token by token, and end each."""
        for tokens in answers:
            with self.answering(topic, tokens):
                pass

    def crash(self, times: int) -> Crashed:
        """Kill an agent so often, a viewer looking on."""
        raise NotImplementedError

    def vanish(self, patience_s: float) -> float | None:
        """Have an agent's machine vanish; return the seconds until a viewer knew, None: it was not told."""
        raise NotImplementedError

    def idle(self, topics: Sequence[str], text: bytes) -> None:
        """Have something in each topic, and nobody there."""
        writer = self.appender(topics)
        for topic in topics:
            writer.write([(topic, text)])
        writer.close()

    def rss(self) -> int:
        """Return the resident bytes of all its servers."""
        return sum(each.memory_info().rss for process in self.processes for each in _family(process))

    def cpu_s(self) -> float:
        return sum(cpu_s(each) for process in self.processes for each in _family(process))


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def program(name: str, found_in: str, *names: str) -> str:
    """Return the path of a program by the environment or the PATH, or raise `Missing`."""
    path = os.environ.get(name.upper().replace("-", "_")) or next(filter(None, map(shutil.which, (name, *names))), None)
    if path is None:
        for directory in ("/usr/sbin", "/usr/local/sbin"):
            if (Path(directory) / name).is_file():
                return str(Path(directory) / name)
        raise Missing(f"{name} is not on this machine ({found_in})")
    return path


def node_package(name: str) -> str:
    """Return the version of a Node package, or raise `Missing`."""
    manifest = NODE / "node_modules" / name / "package.json"
    if not manifest.is_file():
        raise Missing(f"the npm package {name} is not installed (`make bench-peers` installs it)")
    return str(json.loads(manifest.read_text())["version"])
