"""Which brokers a test runs on, and connections to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal

from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.dial import Credentials
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Broker, Guard, Stretch, Wanted
from session_fabric.relay.relay import Relay
from session_fabric.remote.broker import RemoteBroker
from session_fabric.words.events import Draft
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place

# "service": asked over the fabric's relay, on an embedded one. "url": one that is there already (`--broker=nats://…`). "sealed": the memory broker, which gets bodies encrypted.
BrokerKind = Literal["memory", "embedded", "cluster", "url", "sealed", "service"]
EVERYWHERE: tuple[BrokerKind, ...] = ("memory", "embedded", "cluster", "service")
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
    raise ValueError(f"--broker={text} is none of memory, embedded, cluster, service, sealed, nats://…")


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
        elif kind == "service":
            broker = await remote(url, stack)
        else:
            broker = await connect(url)
        stack.push_async_callback(broker.close)
        return broker

    return Brokers(kind, open)


async def remote(url: str, stack: AsyncExitStack) -> RemoteBroker:
    """Return a connection that only asks, and begin to answer it, whatever it asks."""
    behind = await connect(url, name="relay")
    stack.push_async_callback(behind.close)
    relay = Relay(behind)
    stack.push_async_callback(relay.close)

    async def answer(tenant: str, participant: str, token: str, op: str, data: bytes) -> bytes:
        return await relay.answer(Anything(f"{tenant} {participant}"), op, data)

    services = behind.answering(answer)
    await services.open(relay.instance)
    stack.push_async_callback(services.close)
    return await RemoteBroker.connect(
        url, tenant="tests", participant=f"agent:{new_id()}", credentials=Credentials(), timeout_s=60.0
    )


@dataclass(frozen=True)
class Anything:
    """The rights to everything: what the relay does is tested, not for whom."""

    owner: str

    async def read(self, to: Stretch, via: str) -> None: ...
    async def publish(self, to: Stretch, draft: Draft, guard: Guard | None) -> None: ...
    async def purge(self, to: Stretch, wanted: Wanted | None) -> None: ...
    def enter(self, place: Place) -> None: ...
    def erase(self, place: Place) -> None: ...
    def signal(self, place: Place, data: bytes) -> None: ...
    def work(self, tenant: str, name: str, place: Place | None) -> None: ...
    def look(self, bucket: str, key: str) -> None: ...
    def sees(self, bucket: str, key: str) -> bool:
        return True

    def within(self, bucket: str, prefix: str) -> Sequence[str]:
        return (prefix,)

    async def write(self, bucket: str, key: str, value: bytes, revision: int | None) -> None: ...
    def remove(self, bucket: str, key: str) -> None: ...
