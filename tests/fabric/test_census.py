"""Which processes live, and of which version each is."""

from __future__ import annotations

import pytest
from session_fabric.census import Process, gateways
from session_fabric.leases import GATEWAYS, alive_call
from session_fabric.rules.versions import FORMAT
from session_fabric.words.names import escape
from session_fabric.words.version import VERSION

from tests.support.sessions import Fabrics


async def test_who_holds_a_lease_says_its_version(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    await one._shared.lease.hold()
    mine = [process for process in await two.processes() if process.holder == one.broker.holder]
    assert mine == [Process(one.broker.holder, fabrics.tenant, VERSION, FORMAT)]
    assert (mine[0].kind, mine[0].skew) == ("agent", "same")
    assert two.broker.holder not in {process.holder for process in await one.processes()}


@pytest.mark.needs_rights
async def test_a_gateway_is_told_from_agents(fabrics: Fabrics) -> None:
    gateway, one = await fabrics.open("service:gateway"), await fabrics.open()
    await gateway._shared.lease.hold()
    kinds = {process.holder: process.kind for process in await one.processes()}
    assert kinds[gateway.broker.holder] == "gateway"
    await one._shared.lease.hold()
    alone = [process.holder for process in await gateways(gateway.broker)]
    assert gateway.broker.holder in alone
    assert one.broker.holder not in alone


@pytest.mark.needs_rights
async def test_one_from_before_versions_were_told_is_of_an_unknown_one(fabrics: Fabrics) -> None:
    old, one = await fabrics.open(), await fabrics.open()

    async def yes(_: bytes) -> bytes:
        return b"yes"

    serving = await old.broker.calls.serve(alive_call("an-old-gateway"), yes)
    await old.broker.bucket("sf-leases").put(f"{escape(GATEWAYS)}.an-old-gateway", b"{}", ttl_s=60)
    found = {process.holder: process for process in await one.processes()}
    assert found["an-old-gateway"] == Process("an-old-gateway", None, "", 1)
    assert found["an-old-gateway"].skew == "unknown"
    await serving.close()
    # Its lease stands for a while, and it is gone.
    assert "an-old-gateway" not in {process.holder for process in await one.processes()}
