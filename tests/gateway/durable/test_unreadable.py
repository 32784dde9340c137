"""What a gateway does with an entry among subscriptions that it cannot read."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from session_fabric import Fabric
from session_fabric.streams.subscribed import BUCKET, key_of

from tests.gateway.conftest import Running
from tests.gateway.processes import gateway_process
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


async def test_it_is_passed_over_at_the_start_and_when_it_is_heard_of(own_server: NatsNode, tmp_path: Path) -> None:
    async with Fabric.connect(own_server.url, participant="operator:ann", streams=1) as fabric:
        bucket = fabric.broker.bucket(BUCKET)
        await bucket.put(key_of("acme", "before"), b'{"of": "a later version"}')
        async with gateway_process(own_server.url, tmp_path, "--insecure") as gateway:
            await bucket.put(key_of("acme", "after"), b'{"of": "a later version"}')
            for name in ("before", "after"):
                await eventually(lambda name=name: key_of("acme", name) in gateway.log.read_text())
            assert gateway.log.read_text().count("subscription_unreadable") == 2


async def test_who_asks_for_it_is_told_so_and_may_make_it_anew(house: Running, agent: Fabric) -> None:
    await agent.broker.bucket(BUCKET).put(key_of(house.tenant, "w1"), b"\x00 not ours")
    asked = {"type": "pull-wake", "streams": ["log"], "wake_stream": "wakes"}
    one = "/v1/stream/__ds/subscriptions/w1"
    grants = {"/*": ["read", "append", "policy"]}
    headers = {"Authorization": f"Bearer {house.token('service:shop', sessions=grants)}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as http:
        for method, path, body in (
            ("GET", one, None),
            ("PUT", one, asked),
            ("POST", f"{one}/streams", {"streams": ["log"]}),
            ("DELETE", f"{one}/streams/log", None),
            ("POST", f"{one}/claim", {"worker": "w"}),
        ):
            async with http.request(method, path, json=body) as answer:
                told = await answer.json()
            assert (answer.status, told["code"], told["subscription"]) == (500, "unreadable", "w1"), method
            assert told["detail"].startswith("Subscription 'w1' cannot be read")
            assert "delete it and make it anew" in told["hint"]
        async with http.delete(one) as answer:
            assert answer.status == 204
        async with http.put(one, json=asked) as answer:
            assert answer.status == 201


async def test_one_that_a_later_version_has_changed_is_seen_to_no_more(house: Running, agent: Fabric) -> None:
    asked = {"type": "pull-wake", "streams": ["log"], "wake_stream": "wakes"}
    headers = {"Authorization": f"Bearer {house.token('service:shop', sessions={'/*': ['read', 'append', 'policy']})}"}
    async with (
        aiohttp.ClientSession(house.url, headers=headers) as http,
        http.put("/v1/stream/__ds/subscriptions/w1", json=asked) as answer,
    ):
        assert answer.status == 201
    assert (house.tenant, "w1") in house.gateway.wakes._known
    await agent.broker.bucket(BUCKET).put(key_of(house.tenant, "w1"), b'{"of": "a later version"}')
    await eventually(lambda: (house.tenant, "w1") not in house.gateway.wakes._known)
