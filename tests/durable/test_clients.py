"""The official clients of Durable Streams work as they are: the one for Python here, those for JavaScript in Node."""

from __future__ import annotations

import asyncio
import os

import pytest
from durable_streams import AsyncDurableStream, astream

from tests.durable.proxy import proxy
from tests.durable.suite import NODE
from tests.gateway.conftest import Running, Start

pytestmark = pytest.mark.slow


def _token(house: Running) -> str:
    return house.token("service:client", sessions={"/clients/*": ["*"]})


async def _vitest(file: str, **env: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("npx", "vitest", "run", file),
        cwd=NODE,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    print(output.decode("utf-8", "replace"))
    assert process.returncode == 0, output.decode("utf-8", "replace")[-4000:]


async def test_the_official_clients_and_transports_for_javascript_work_as_they_are(start: Start) -> None:
    # Their transport for the AI SDK reads without headers: behind an application's proxy, as its authors advise.
    async with start(stream_poll_s=2.0) as house, proxy([house.url], _token(house)) as url:
        await _vitest("clients.test.mjs", STREAMS_URL=url)


async def test_where_a_connection_drops_over_an_append_our_client_neither_doubles_nor_loses(house: Running) -> None:
    await _vitest(
        "drops.test.mjs",
        STREAMS_URL=house.url,
        STREAMS_TOKEN=house.token("service:client", sessions={"*": ["*"]}),
        NODE_OPTIONS="--experimental-websocket",  # which Node 20 has behind this
    )


async def test_the_official_client_for_python_works_as_it_is(house: Running) -> None:
    url, headers = f"{house.url}/v1/stream/clients/python", {"Authorization": f"Bearer {_token(house)}"}
    numbers = list(range(20))
    async with await AsyncDurableStream.create(url, headers=headers, content_type="application/json") as stream:
        for number in numbers[:10]:
            await stream.append({"n": number})
        found: list[int] = []
        async with astream(url, headers=headers, live="sse", offset="-1") as response:
            async for item in response.iter_json():
                found.append(item["n"])
                if len(found) == 10:  # what comes while it follows
                    for number in numbers[10:]:
                        await stream.append({"n": number})
                if len(found) == len(numbers):
                    break
    assert found == numbers
    async with astream(url, headers=headers, live=False) as response:
        assert [item["n"] for item in await response.read_json()] == numbers
