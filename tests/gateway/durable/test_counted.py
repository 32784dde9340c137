"""What an operator sees of durable streams."""

from __future__ import annotations

import aiohttp

from tests.gateway.conftest import Running
from tests.support.waiting import eventually


def counted(house: Running, name: str, **labels: str) -> float:
    return house.gateway.metrics.registry.get_sample_value(f"session_fabric_gateway_{name}", labels) or 0.0


async def test_requests_are_counted_by_what_they_are_and_what_became_of_them(house: Running) -> None:
    headers = {"Authorization": f"Bearer {house.token('agent:one')}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as http:
        async with http.put("/v1/stream/a", data=b"1") as answer:
            assert answer.status == 201
        async with http.put("/v1/stream/a", headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 409
        async with http.get("/v1/stream/a") as answer:
            assert answer.status == 200
        async with http.get("/v1/stream/a", params={"offset": "-1", "live": "sse"}) as answer:
            assert answer.status == 200
            assert counted(house, "durable_requests_open", operation="sse") == 1
    for operation, outcome in (("make", "ok"), ("make", "refused"), ("read", "ok")):
        assert counted(house, "durable_requests_total", operation=operation, outcome=outcome) == 1
    await eventually(lambda: counted(house, "durable_requests_open", operation="sse") == 0)
    assert counted(house, "durable_requests_total", operation="sse", outcome="left") == 1
