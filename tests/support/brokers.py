"""Which brokers a test runs on, and connections to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal

from session_fabric import Fabric
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.credentials import Credentials
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Broker
from session_fabric.records import Directory
from session_fabric.relay.relay import Relay
from session_fabric.remote.broker import RemoteBroker
from session_fabric.rules.grants import EVERYTHING
from session_fabric.words.names import new_id
from session_fabric.words.subjects import inbox_prefix

from tests.support.rights import Anything, Crowd

# "service": asked over the fabric's relay, on an embedded one. "url": one that is there already (`--broker=nats://…`).
# "told": as "service", and what is live is passed on by the relay too. "container": an image of nats-server.
# "sealed": the memory broker, which gets bodies encrypted.
BrokerKind = Literal["memory", "embedded", "cluster", "url", "container", "sealed", "service", "told"]
EVERYWHERE: tuple[BrokerKind, ...] = ("memory", "embedded", "cluster", "service", "told")
# Those who have no rights at the broker but to ask.
ASKING: tuple[BrokerKind, ...] = ("service", "told")
SEALED: Final = "sealed"
CONTAINER: Final = "container"


def parse_option(text: str) -> BrokerKind:
    """Read `--broker`; raise `ValueError` with what is wrong."""
    if text.startswith(("nats://", "tls://")):
        return "url"
    for kind in (*EVERYWHERE, SEALED, CONTAINER):
        if text == kind:
            return kind
    raise ValueError(
        f"--broker={text} is none of memory, embedded, cluster, service, told, sealed, container, nats://…"
    )


@dataclass(frozen=True)
class Brokers:
    """Opens connections to one broker, and closes them with the test."""

    kind: BrokerKind
    open: Callable[[], Awaitable[Broker]]
    open_as: Callable[[str, str], Awaitable[Broker]]


async def connect(url: str, *, name: str = "tests", credentials: Credentials | None = None) -> JetStreamBroker:
    """Connect, with streams enough to tell one from another and few enough to be made at once."""
    return await JetStreamBroker.connect(url, streams=4, name=name, credentials=credentials, timeout_s=60.0)


async def vanish(broker: Broker) -> None:
    """End a connection as the kernel does for a process that was killed."""
    if isinstance(broker, MemoryBroker):
        broker.disconnect()
    else:
        assert isinstance(broker, (JetStreamBroker, RemoteBroker))
        broker._dial._closing = True
        broker._dial.connection.options["allow_reconnect"] = False
        broker._dial.connection._transport._io_writer.transport.abort()  # type: ignore[union-attr]


def brokers(kind: BrokerKind, url: str | None, stack: AsyncExitStack) -> Brokers:
    """Return the opener for a kind; connections are closed with the stack."""
    memory = MemoryBroker()

    async def open() -> Broker:
        broker: Broker
        if url is None:
            broker = memory.beside()
        elif kind in ASKING:
            broker = await remote(url, stack, told=kind == "told")
        else:
            broker = await connect(url)
        stack.push_async_callback(broker.close)
        return broker

    async def open_as(tenant: str, participant: str) -> Broker:
        """Open a connection with the rights of this participant alone, where the kind knows of rights."""
        if kind not in ASKING or url is None:
            return await open()
        broker = await remote(url, stack, (tenant, participant), told=kind == "told")
        stack.push_async_callback(broker.close)
        return broker

    return Brokers(kind, open, open_as)


async def remote(url: str, stack: AsyncExitStack, who: tuple[str, str] | None = None, *, told: bool) -> RemoteBroker:
    """Return a connection that only asks, and begin to answer it: what is `who`'s to ask (None: whatever it is).

    `told`: it hears nothing from the broker itself.
    """
    behind = await connect(url, name="relay")
    stack.push_async_callback(behind.close)
    directory = Directory(behind)
    await directory.open()
    stack.push_async_callback(directory.close)
    if who is not None:  # whoever only asks leaves it to others to put in order what was left behind
        watching = await Fabric.over(behind, tenant=who[0], participant="service:gateway")
        await watching.watch_over()
        stack.push_async_callback(watching.close)
    relay = Relay(behind, behind.passing)
    stack.push_async_callback(relay.close)

    async def answer(tenant: str, participant: str, token: str, op: str, data: bytes) -> bytes:
        asker = f"{tenant} {participant}"
        rights = (
            Anything(asker, tenant, inbox_prefix(tenant, participant))
            if who is None
            else Crowd(tenant, participant, EVERYTHING, directory)
        )
        return await relay.answer(rights, op, data)

    services = behind.answering(answer)
    await services.open(relay.instance)
    stack.push_async_callback(services.close)
    tenant, participant = who or ("tests", f"agent:{new_id()}")
    return await RemoteBroker.connect(
        url,
        tenant=tenant,
        participant=participant,
        credentials=Credentials(),
        sessions=() if told else None,
        timeout_s=60.0,
    )
