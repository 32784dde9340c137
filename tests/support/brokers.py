"""Which brokers a test runs on, and connections to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal

from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Broker

# "url": one that is there already (`--broker=nats://…`). "sealed": the memory broker, which gets bodies encrypted.
BrokerKind = Literal["memory", "embedded", "cluster", "url", "sealed"]
EVERYWHERE: tuple[BrokerKind, ...] = ("memory", "embedded", "cluster")
SEALED: Final = "sealed"

CONTAINER = (
    "--broker=container needs a Docker engine and testcontainers, and is not there yet. "
    "Use --broker=embedded, --broker=cluster or --broker=nats://…"
)


def parse_option(text: str) -> BrokerKind:
    """Read `--broker`; raise `ValueError` with what is wrong."""
    if text.startswith(("nats://", "tls://")):
        return "url"
    if text == "container":
        raise ValueError(CONTAINER)
    for kind in (*EVERYWHERE, SEALED):
        if text == kind:
            return kind
    raise ValueError(f"--broker={text} is none of memory, embedded, cluster, sealed, nats://…")


@dataclass(frozen=True)
class Brokers:
    """Opens connections to one broker, and closes them with the test."""

    kind: BrokerKind
    open: Callable[[], Awaitable[Broker]]


async def connect(url: str, *, name: str = "tests") -> JetStreamBroker:
    """Connect, with streams enough to tell one from another and few enough to be made at once."""
    return await JetStreamBroker.connect(url, streams=4, name=name, timeout_s=60.0)


def brokers(kind: BrokerKind, url: str | None, stack: AsyncExitStack) -> Brokers:
    """Return the opener for a kind; connections are closed with the stack."""
    memory = MemoryBroker()

    async def open() -> Broker:
        broker: Broker
        if url is None:
            broker = memory.beside()
        else:
            broker = await connect(url)
        stack.push_async_callback(broker.close)
        return broker

    return Brokers(kind, open)
