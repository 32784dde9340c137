"""What is passed on to a native agent ends when its token counts no more: at once, whatever it still renews."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from session_fabric import Fabric
from session_fabric.jetstream.credentials import Credentials
from session_fabric.ports import Wanted
from session_fabric.records import Directory
from session_fabric.relay.natives import Natives
from session_fabric.relay.news import LEASE_S
from session_fabric.remote.broker import RemoteBroker
from session_fabric.remote.durable import RemoteDurable
from session_fabric.rules.grants import Grants, parse
from session_fabric.words.errors import Forbidden, KeysUnavailable, Unauthenticated
from session_fabric.words.subjects import Place

from tests.support.servers import NatsNode
from tests.support.sessions import said
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
    broken: bool = False

    async def grants_of(self, _: str, __: str, token: str) -> Grants:
        if self.broken:
            raise RuntimeError("a defect of whoever looks at tokens")
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
    async def asking(self, token: str) -> AsyncIterator[RemoteBroker]:
        """Ask as eve with a token."""
        broker = await RemoteBroker.connect(
            self.server.url, tenant=self.tenant, participant="agent:eve", credentials=Credentials()
        )
        broker._link._token = lambda: token  # this server asks nobody for one
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def hearing(self, id: str, token: str, session: str | None = "support-1") -> AsyncIterator[None]:
        """Have it pass something on, and renew it as often as can be for as long as the block lasts."""
        async with self.asking(token) as broker:
            place = None if session is None else Place(self.tenant, session)
            subject = f"sf-kv.sf-state.{self.tenant}.>" if place is None else place.live_filter()
            told = {"id": id, "place": place and list(place), "subjects": [subject]}
            await broker._link.ask("news", told)
            yield


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


async def test_a_defect_while_tokens_are_looked_at_is_no_end_of_looking(shared_server: NatsNode, tenant: str) -> None:
    async with house(shared_server, tenant) as one:
        one.granted = {"t1": {"support-*": ["read"]}}
        place = Place(tenant, "support-1")
        async with one.asking("t1") as broker:
            told = {"id": "x", "place": list(place), "subjects": [place.live_filter()]}
            await broker._link.ask("news", told)
            one.broken = True
            one.natives.look_again()
            await eventually(lambda: not one.natives._changed.is_set())
            one.broken = False
            del one.granted["t1"]
            one.natives.look_again()
            await eventually(lambda: not one.heard(), AT_ONCE_S)


async def subscribed(broker: RemoteBroker, place: Place) -> RemoteDurable:
    return await broker.durable(
        place.tenant, "work", place=place, wanted=[Wanted("in")], ack_wait_s=30.0, max_deliver=5, start="start"
    )


async def test_who_waits_for_work_gets_none_when_the_token_is_revoked_meanwhile(
    shared_server: NatsNode, tenant: str
) -> None:
    async with house(shared_server, tenant) as one:
        one.granted = {"t1": {"support-1": ["read"]}, "t2": {"support-1": ["read"]}}
        session = one.full.session("support-1")
        await session.create()
        async with one.asking("t1") as eve, one.asking("t2") as other:
            durable = await subscribed(eve, session.place)
            fetching = asyncio.create_task(durable.fetch(10, 5.0))
            await eventually(lambda: any(held.fetching for held in one.natives._relay._durables._held.values()))
            del one.granted["t1"]
            await session.append(said("secret"))
            with pytest.raises(Unauthenticated):
                await fetching
            # It is not lost: whoever may still have it gets it at once.
            (delivery,) = await (await subscribed(other, session.place)).fetch(10, 5.0)
            assert b"secret" in delivery.record.payload
            await delivery.ack()


async def test_what_was_opened_with_another_token_is_not_fetched_from_by_a_lie(
    shared_server: NatsNode, tenant: str
) -> None:
    async with house(shared_server, tenant) as one:
        one.granted = {"wide": {"*": ["read"]}, "narrow": {"mine": ["read"]}}
        for name in ("mine", "theirs"):
            await one.full.session(name).append(said(f"secret of {name}"))
        async with one.asking("wide") as before, one.asking("narrow") as after:
            durable = await subscribed(before, Place(tenant, "theirs"))
            lie = {**durable._asked, "place": list(Place(tenant, "mine")), "id": durable._id}
            with pytest.raises(Forbidden):
                await after._link.ask("fetch", {**lie, "limit": 10, "timeout_s": 1.0}, at=durable._at)
