"""Two tenants whose sessions hold a secret, and somebody with a token of one of them who asks the relay by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from session_fabric import Fabric
from session_fabric.jetstream.credentials import Credentials
from session_fabric.ports import BUCKETS, Stretch
from session_fabric.records import Directory
from session_fabric.relay.own import Own
from session_fabric.relay.relay import Relay
from session_fabric.remote.broker import RemoteBroker
from session_fabric.rules.grants import parse
from session_fabric.spelling import spell_draft, spell_stretch
from session_fabric.words.names import escape

from tests.support.events import everything, milestone
from tests.support.servers import NatsNode

EVE = "agent:eve"
SECRET = "the number is 4711"
# What eve's token says; in nothing else does she take part.
GRANTS = parse(
    {
        "mine": ["read", "append", "create", "presence", "signal", "cursor", "state:plan*"],
        "mine-fork": ["read"],
        "mine-second": ["read", "create"],
    }
)


@dataclass
class World:
    """Two tenants with sessions in which a secret was said, and eve, who has one of the first's."""

    server: NatsNode
    full: Fabric
    relay: Relay
    eve: RemoteBroker
    a: str
    b: str
    stretches: dict[str, Stretch]
    holder: str

    async def others(self) -> dict[str, Any]:
        """Return all that there is of those whom it does not concern."""
        found: dict[str, Any] = {}
        for name in ("other", "theirs"):
            found[name] = [
                (r.sequence, r.head, r.payload) for r in await everything(self.full.broker, self.stretches[name])
            ]
        for bucket in BUCKETS:
            for tenant in (self.a, self.b):
                for entry in await self.full.broker.bucket(bucket).entries(escape(tenant)):
                    if f".{escape('mine')}" not in entry.key and bucket != "sf-leases":
                        found[f"{bucket} {entry.key}"] = (entry.revision, entry.value)
        return found

    def draft(self, *, actor: str = EVE, **fields: Any) -> dict[str, Any]:
        return {**spell_draft(milestone("x", writer=actor)), **fields}

    def publish(self, **fields: Any) -> dict[str, Any]:
        told = {
            "to": spell_stretch(self.stretches["mine"]),
            "via": "mine",
            "guard": None,
            "ttl_s": None,
            "timeout_s": 2.0,
        }
        return {**told, "draft": self.draft(), **fields}


@asynccontextmanager
async def relayed(server: NatsNode, tenant: str) -> AsyncIterator[World]:
    a, b = f"{tenant}a", f"{tenant}b"
    async with AsyncExitStack() as stack:
        full = await stack.enter_async_context(Fabric.connect(server.url, tenant=a, streams=4))
        stretches = {}
        for name, fabric in (("mine", full), ("other", full), ("theirs", full.view(tenant=b))):
            session = fabric.session(name)
            await session.append({"type": "message.user", "message": {"id": "m1", "role": "user", "content": SECRET}})
            await session.state("plan").put({"note": SECRET})
            stretches[name] = (await session.record()).stretch
        directory = Directory(full.broker)
        await directory.open()
        stack.push_async_callback(directory.close)
        relay = Relay(full.broker, full.broker.passing)  # type: ignore[attr-defined]  # a real broker's
        stack.push_async_callback(relay.close)

        async def answer(tenant: str, participant: str, token: str, op: str, data: bytes) -> bytes:
            return await relay.answer(Own(tenant, participant, GRANTS, directory), op, data)

        services = full.broker.answering(answer)  # type: ignore[attr-defined]  # a real broker's
        await services.open(relay.instance)
        stack.push_async_callback(services.close)
        eve = await RemoteBroker.connect(server.url, tenant=a, participant=EVE, credentials=Credentials())
        stack.push_async_callback(eve.close)
        yield World(server, full, relay, eve, a, b, stretches, full.broker.holder)
