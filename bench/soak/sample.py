"""What is sampled of each process, and of the broker's contents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import psutil
from nats.aio.client import Client

from bench.soak.broker import ProfiledBroker
from bench.soak.churn import Agents
from bench.soak.flat import Measure

_MIB: Final = 1024 * 1024
_GAUGES: Final[dict[str, Measure]] = {
    "session_fabric_gateway_connections": "connections",
    "session_fabric_gateway_feeds": "feeds",
}


class Series(NamedTuple):
    """Whose, and what."""

    whose: str
    measure: Measure


async def sample(
    broker: ProfiledBroker, gateway: int, tasks: Path, url: str, agents: Agents, connection: Client
) -> dict[Series, float]:
    """Return all values as they are now. Agents are taken together: they come and go."""
    found: dict[Series, float] = {}
    workers = [(process.pid, file) for process, file in agents.running]
    for whose, ids in (("broker", [broker.pid]), ("gateway", [gateway]), ("agents", [pid for pid, _ in workers])):
        found |= _processes(whose, ids)
    # Not what is resident: that has the blocks of files as well, which fill for an hour.
    found[Series("broker", "memory")] = (await broker.heap()).held / _MIB
    found[Series("gateway", "tasks")] = _number(tasks)
    found[Series("agents", "tasks")] = sum(_number(file) for _, file in workers)
    found |= await _contents(connection)
    found |= await _gauges(url)
    return found


def _processes(whose: str, ids: list[int]) -> dict[Series, float]:
    processes = [psutil.Process(id_) for id_ in ids]
    return {
        Series(whose, "memory"): sum(each.memory_info().rss for each in processes) / _MIB,
        Series(whose, "descriptors"): sum(each.num_fds() for each in processes),
        Series(whose, "threads"): sum(each.num_threads() for each in processes),
    }


def _number(file: Path) -> float:
    try:
        return float(file.read_text() or 0)
    except FileNotFoundError:
        return 0.0


async def _contents(broker: Client) -> dict[Series, float]:
    # nats-py leaves the number of subjects out of what it reads.
    answer = await broker.request("$JS.API.STREAM.LIST", b"", timeout=10)
    # What was done to sessions is kept on purpose, one record for each deletion.
    kept = [each for each in json.loads(answer.data)["streams"] if each["config"]["name"] != "KV_sf-audit"]
    states = [stream["state"] for stream in kept]
    return {
        Series("broker", "consumers"): sum(state["consumer_count"] for state in states),
        Series("broker", "subjects"): sum(state.get("num_subjects", 0) for state in states),
    }


async def _gauges(url: str) -> dict[Series, float]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        text = await answer.text()
    return {Series("gateway", measure): sum(_values(text, name)) for name, measure in _GAUGES.items()}


def _values(text: str, name: str) -> Iterator[float]:
    yield from map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))
