"""Revocations reach every process that listens, and are found again after a lost connection."""

from __future__ import annotations

import time

import pytest
from session_fabric.ports import Broker
from session_fabric.revocations import BUCKET, Revocations, revoke
from session_fabric.rules.revocations import Revocation, revocation
from session_fabric.words.names import new_id

from tests.support.brokers import Brokers
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def of(tenant: str, name: str, *, for_s: int = 3600, before_ms: int | None = None) -> Revocation:
    return revocation(tenant, "token", name, now_ms=now_ms(), for_s=for_s, before_ms=before_ms)


def knows(revocations: Revocations, tenant: str, name: str) -> bool:
    return revocations.revoked.covers(tenant, "user:ada", name, now_ms()) is not None


@pytest.mark.needs_rights
async def test_a_revocation_reaches_all_who_listen(connections: Brokers, broker: Broker, tenant: str) -> None:
    async with Revocations(await connections.open()) as one, Revocations(await connections.open()) as two:
        heard: list[Revocation] = []
        one.on_revoked(heard.append)
        said = await revoke(broker, of(tenant, "j1"), by="operator:ann", now_ms=now_ms())
        await eventually(lambda: knows(one, tenant, "j1") and knows(two, tenant, "j1"))
        assert [each for each in heard if each.tenant == tenant] == [said]


@pytest.mark.needs_rights
async def test_who_begins_to_listen_later_knows_what_stands(connections: Brokers, broker: Broker, tenant: str) -> None:
    await revoke(broker, of(tenant, "j1"), by="operator:ann", now_ms=now_ms())
    async with Revocations(await connections.open()) as late:
        assert knows(late, tenant, "j1")
        assert not knows(late, tenant, "j2")


async def test_a_revocation_that_is_said_again_is_never_made_weaker(broker: Broker, tenant: str) -> None:
    first = await revoke(broker, of(tenant, "j1"), by="operator:ann", now_ms=now_ms())
    again = await revoke(broker, of(tenant, "j1", for_s=60, before_ms=5), by="operator:ann", now_ms=now_ms())
    assert (again.before_ms, again.until_ms) == (first.before_ms, first.until_ms)


@pytest.mark.needs_rights
async def test_a_revocation_ends_when_what_it_is_about_has_expired(broker: Broker, tenant: str) -> None:
    async with Revocations(broker) as listening:
        await revoke(broker, of(tenant, "j1", for_s=1), by="operator:ann", now_ms=now_ms())
        await eventually(lambda: knows(listening, tenant, "j1"))
        await eventually(lambda: not knows(listening, tenant, "j1"))


@pytest.mark.needs_rights
async def test_an_entry_that_is_none_changes_nothing(broker: Broker, tenant: str) -> None:
    async with Revocations(broker) as listening:
        await broker.bucket(BUCKET).put(f"{tenant}.token.j1", b"no JSON", ttl_s=60)
        await revoke(broker, of(tenant, "j2"), by="operator:ann", now_ms=now_ms())
        await eventually(lambda: knows(listening, tenant, "j2"))
        assert not knows(listening, tenant, "j1")


async def test_what_was_said_while_the_broker_was_away_is_heard_when_it_is_back(own_server: NatsNode) -> None:
    from session_fabric import Fabric

    tenant = new_id("t")
    async with Fabric.connect(own_server.url) as here, Revocations(here.broker) as listening:
        await revoke(here.broker, of(tenant, "j1"), by="operator:ann", now_ms=now_ms())
        await eventually(lambda: knows(listening, tenant, "j1"))
        own_server.kill()
        await eventually(lambda: not here.broker.connected)
        assert knows(listening, tenant, "j1")
        own_server.start()
        async with Fabric.connect(own_server.url) as there:
            await revoke(there.broker, of(tenant, "j2"), by="operator:ann", now_ms=now_ms())
        await eventually(lambda: knows(listening, tenant, "j2"), 20)
