"""Subscriptions on durable streams after a restore: who is woken goes on where it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from session_fabric import Fabric, backup

from tests.gateway.conftest import Running, Start
from tests.support.waiting import eventually

Json = dict[str, Any]


@asynccontextmanager
async def client(house: Running, tenant: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {house.token('service:shop', tenant=tenant, sessions={'/*': ['*']})}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as session:
        yield session


async def ask(http: aiohttp.ClientSession, method: str, path: str, body: object = None, **headers: str) -> Json:
    async with http.request(method, f"/v1/stream/{path}", json=body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status < 300, text
        return json.loads(text) if text.startswith("{") else {"next": answer.headers.get("Stream-Next-Offset")}


@asynccontextmanager
async def restored(house: Running, directory: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Back the tenant up, restore it as another, and return a client of that."""
    nats = house.gateway.settings.nats
    async with Fabric.connect(nats, tenant=house.tenant, participant="operator:ann") as fabric:
        assert (await backup.create(fabric, directory)).subscriptions == 1
        other = fabric.view(tenant=f"{house.tenant}-2", participant="operator:ann")
        assert (await backup.restore(other, directory)).subscriptions == 1
        async with client(house, other.tenant) as http:
            yield http


async def test_a_worker_goes_on_behind_what_was_worked_off(house: Running, tmp_path: Path) -> None:
    async with client(house, house.tenant) as http:
        for path in ("jobs/a", "jobs/empty", "wakes"):
            await ask(http, "PUT", path, **{"Content-Type": "application/json"})
        await ask(
            http, "PUT", "__ds/subscriptions/s", {"type": "pull-wake", "pattern": "jobs/*", "wake_stream": "wakes"}
        )
        await ask(http, "POST", "jobs/a", 1)
        there = (await ask(http, "POST", "jobs/a", 2))["next"]
        await ask(http, "POST", "jobs/a", 3)
        wake = await ask(http, "POST", "__ds/subscriptions/s/claim", {"worker": "w"})
        proof = {"Authorization": f"Bearer {wake['token']}"}
        done = {"wake_id": wake["wake_id"], "generation": wake["generation"]}
        acks = [{"stream": "jobs/a", "offset": there}]
        await ask(http, "POST", "__ds/subscriptions/s/ack", {**done, "acks": acks}, **proof)
    async with restored(house, tmp_path / "b") as http:
        written = (tmp_path / "b" / "tenant.jsonl").read_text()
        assert "jobs/*" in written
        assert wake["token"] not in written
        # The other worker's lease was of then: the work is to be had.
        again = await ask(http, "POST", "__ds/subscriptions/s/claim", {"worker": "x"})
        assert again["generation"] > wake["generation"]
        streams = {one["path"]: one for one in again["streams"]}
        assert {path: one["has_pending"] for path, one in streams.items()} == {"jobs/a": True, "jobs/empty": False}
        async with http.get("/v1/stream/jobs/a", params={"offset": streams["jobs/a"]["acked_offset"]}) as answer:
            assert await answer.json() == [3]


@pytest.mark.parametrize("public_url", [None, "https://new.example", "https://new.example/"])
async def test_a_webhook_is_called_for_what_comes_after_the_restore(
    start: Start, tmp_path: Path, public_url: str | None
) -> None:
    calls: asyncio.Queue[Json] = asyncio.Queue()

    async def hook(request: web.Request) -> web.Response:
        calls.put_nowait(await request.json())
        return web.json_response({"done": True})

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    body = {"type": "webhook", "pattern": "jobs/*", "webhook": {"url": f"{site.name}/hook"}}
    async with start(insecure=True) as house, client(house, house.tenant) as http:
        await ask(http, "PUT", "jobs/a", **{"Content-Type": "application/json"})
        await ask(http, "PUT", "__ds/subscriptions/s", body)
        await ask(http, "POST", "jobs/a", 1)
        await calls.get()

        async def worked_off() -> bool:
            (link,) = (await ask(http, "GET", "__ds/subscriptions/s"))["streams"]
            return bool(link["acked_offset"] == (await ask(http, "GET", "jobs/a"))["next"])

        await eventually(worked_off)
    old_url = house.url
    async with start(insecure=True, public_url=public_url) as house, restored(house, tmp_path / "b") as http:
        await ask(http, "POST", "jobs/a", 2)
        called = await calls.get()
        (stream,) = called["streams"]
        async with http.get("/v1/stream/jobs/a", params={"offset": stream["acked_offset"]}) as answer:
            assert await answer.json() == [2]
        assert (
            called["callback_url"] == f"{(public_url or old_url).rstrip('/')}/v1/stream/__ds/subscriptions/s/callback"
        )
    await runner.cleanup()
