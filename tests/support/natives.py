"""A nats-server that lets nobody in whom the fabric does not know, and who is let in there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError
from session_fabric import Credentials
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.seeds import Seed
from session_fabric.jetstream.server_config import Door, door_config

from tests.support.servers import NatsNode, nats_node


@dataclass
class Guarded:
    """A server that asks gateways who may come in; `seeds` is what they answer with, `nkey` how they come in."""

    server: NatsNode
    door: Door
    seeds: Path
    nkey: Path

    @property
    def own(self) -> Credentials:
        """Of the fabric's own processes, with all rights."""
        return Credentials.read(self.nkey)


@dataclass
class Keys:
    """The files of a door, and its configuration."""

    door: Door
    seeds: Path
    nkey: Path

    @classmethod
    def make(cls, directory: Path, *, curve: bool = True) -> Keys:
        directory.mkdir(parents=True, exist_ok=True)
        user, issuer, sealed = Seed.new("user"), Seed.new("account"), Seed.new("curve")
        nkey, seeds = directory / "fabric.nk", directory / "callout.seeds"
        nkey.write_text(user.text)
        seeds.write_text("\n".join([issuer.text, *([sealed.text] if curve else [])]))
        return cls(Door(user.public, issuer.public, sealed.public if curve else None), seeds, nkey)

    @property
    def config(self) -> str:
        return "\n".join(door_config(self.door))


@asynccontextmanager
async def guarded_server(directory: Path, *, curve: bool = True, config: str = "") -> AsyncIterator[Guarded]:
    keys = Keys.make(directory / "keys", curve=curve)
    async with nats_node(directory / "nats", config=f"{keys.config}\n{config}") as server:
        yield Guarded(server, keys.door, keys.seeds, keys.nkey)


async def refused(url: str, **options: Any) -> bool:
    """Say whether the server does not let one in who introduces himself so."""

    async def silent(_: Exception) -> None: ...

    client = Connection()
    try:
        await client.connect(url, allow_reconnect=False, error_cb=silent, **options)
    except NatsError as error:
        return "authorization" in str(error).lower()
    finally:
        await client.close()
    return False
