"""What is passed on to a native agent ends when its token counts no more: at once, whatever it still renews."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from session_fabric import Fabric
from session_fabric.jetstream.credentials import Credentials
from session_fabric.records import Directory
from session_fabric.relay.natives import Natives
from session_fabric.relay.news import LEASE_S
from session_fabric.remote.broker import RemoteBroker
from session_fabric.rules.grants import Grants, parse
from session_fabric.words.errors import KeysUnavailable, Unauthenticated
from session_fabric.words.subjects import Place

from tests.support.servers import NatsNode
from tests.support.waiting import eventually

AT_ONCE_S = LEASE_S / 2


@dataclass
class House:
    """A process that passes on, and what it believes of tokens: `granted` by token, absent where it was revoked."""

    full: Fabric
    natives: Natives
    server: NatsNode
    tenant: str
    granted: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    away: bool = False

    async def grants_of(self, _: str, __: str, token: str) -> Grants:
        if self.away:
            raise KeysUnavailable("The keys cannot be looked up.", hint="Try again.")
        if not token:
            return parse({"none": ["read"]})  # who connects, as yet
        if token not in self.granted:
            raise Unauthenticated("The token was revoked.", hint="Get another.")
        return parse(self.granted[token])

    def heard(self) -> set[str]:
        return {id for _, id in self.natives._relay._news._held}

    @asynccontextmanager
    async def hearing(self, id: str, token: str, session: str | None = "support-1") -> AsyncIterator[None]:
        """Have it pass something on, and renew it as often as can be for as long as the block lasts."""
        broker = await RemoteBroker.connect(
            self.server.url, tenant=self.tenant, participant="agent:eve", credentials=Credentials()
        )
        broker._link._token = lambda: token  # this server asks nobody for one
        try:
            place = None if session is None else Place(self.tenant, session)
            subject = f"sf-kv.sf-state.{self.tenant}.>" if place is None else place.live_filter()
            told = {"id": id, "place": place and list(place), "subjects": [subject]}
            await broker._link.ask("news", told)
            yield
        finally:
            await broker.close()


@asynccontextmanager
async def house(server: NatsNode, tenant: str) -> AsyncIterator[House]:
    async with Fabric.connect(server.url, tenant=tenant, streams=1) as full:
        directory = Directory(full.broker)
        await directory.open()
        found: list[House] = []

        async def grants_of(tenant: str, participant: str, token: str) -> Grants:
            return await found[0].grants_of(tenant, participant, token)

        async with Natives(full.broker, directory, grants_of) as natives:  # type: ignore[arg-type]  # a real broker
            one = House(full, natives, server, tenant)
            found.append(one)
            yield one
        await directory.close()


async def test_a_revoked_token_hears_no_more_and_another_one_goes_on(shared_server: NatsNode, tenant: str) -> None:
    async with house(shared_server, tenant) as one:
        one.granted = {"t1": {"support-*": ["read"]}, "t2": {"support-*": ["read"]}}
        async with one.hearing("x", "t1"), one.hearing("z", "t1", None), one.hearing("y", "t2"):
            assert one.heard() == {"x", "y", "z"}
            del one.granted["t1"]
            one.natives.look_again()
            await eventually(lambda: one.heard() == {"y"}, AT_ONCE_S)


async def test_a_session_that_is_not_granted_any_more_is_heard_no_more(shared_server: NatsNode, tenant: str) -> None:
    async with house(shared_server, tenant) as one:
        one.granted = {"t1": {"support-*": ["read"]}}
        async with one.hearing("x", "t1"), one.hearing("y", "t1", "support-2"):
            one.granted = {"t1": {"support-2": ["read"]}}
            one.natives.look_again()
            await eventually(lambda: one.heard() == {"y"}, AT_ONCE_S)


async def test_while_tokens_cannot_be_looked_at_what_was_granted_goes_on(shared_server: NatsNode, tenant: str) -> None:
    async with house(shared_server, tenant) as one:
        one.granted = {"t1": {"support-*": ["read"]}, "t2": {"support-*": ["read"]}}
        async with one.hearing("x", "t1"):
            one.away = True
            one.natives.look_again()
            one.away = False
            async with one.hearing("y", "t2"):
                del one.granted["t2"]
                one.natives.look_again()
                await eventually(lambda: one.heard() == {"x"}, AT_ONCE_S)
