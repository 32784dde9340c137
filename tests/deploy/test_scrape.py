"""A real Prometheus scrapes a real gateway and a real agent: what rules and panels ask for is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from session_fabric import AgentRun, Fabric
from session_fabric.metrics import PrometheusMetrics

from tests.deploy.prometheus import Prometheus, metrics_of, panels, prometheus, rules
from tests.gateway.processes import gateway_process
from tests.gateway.sockets import greeted
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

# Nothing of the kind happens under a load that goes well.
QUIET = 4


@asynccontextmanager
async def watched(server: NatsNode, directory: Path) -> AsyncIterator[tuple[Prometheus, str]]:
    """A gateway with an admin port and an agent, both scraped."""
    metrics = PrometheusMetrics()
    async with (
        gateway_process(server.url, directory, "--insecure", "--admin-port", "0", "--drain", "0") as gateway,
        Fabric.connect(server.url, participant="agent:writer", metrics=metrics) as fabric,
    ):

        @fabric.agent()
        async def handler(run: AgentRun) -> None:
            if run.input.text == "fail" and run.attempt == 1:
                raise ValueError("once")
            for word in run.input.text.split():
                await run.text(f"{word} ")

        serving = asyncio.create_task(handler.serve())
        jobs = {"session-fabric-gateway": urlsplit(gateway.said["admin"]).netloc}
        with metrics.serving(0) as port:
            jobs["session-fabric-agents"] = f"127.0.0.1:{port}"
            with prometheus(directory, jobs) as scraping:
                await eventually(scraping.ready, 60)
                yield scraping, gateway.url
        handler.stop()
        await serving


async def load(url: str) -> None:
    """Use it as people do, and be refused now and then."""
    async with greeted(url) as client:
        await client.open("s1", presence={"at": "desk"})
        for number, text in enumerate(("two words", "fail")):
            message = {"id": f"m{number}", "role": "user", "content": text}
            await client.append("s1", {"type": "message.user", "message": message}, id=f"e{number}")
        await client.until_events(lambda events: sum(e["type"] == "RUN_FINISHED" for e in events) == 2, 60)
        await client.ask("control", session="s1", run="nobody", action="cancel", deadline_ms=100)
        await client.ask("who", session="no such session")
    async with aiohttp.ClientSession() as http, http.get(f"{url}/nothing") as response:
        assert response.status == 404


async def test_what_rules_and_panels_name_is_scraped_and_answers_under_load(
    own_server: NatsNode, tmp_path: Path
) -> None:
    async with watched(own_server, tmp_path) as (server, url):
        await eventually(lambda: len(server.query("up == 1")) == 2, 30)
        await load(url)
        await eventually(lambda: server.query('session_fabric_runs_total{end="success"} == 2'), 30)
        await eventually(lambda: server.query('session_fabric_controls_total{outcome="expired"} == 1'), 30)
        names = server.names()
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        wanted = {name for rule in rules() for name in metrics_of(rule["expr"])}
        wanted |= {name for panel in panels() for name in metrics_of(panel.expr)}
        assert wanted - recorded - names == set()
        assert all(rule["health"] == "ok" for group in server.get("/api/v1/rules")["groups"] for rule in group["rules"])
        firing = {alert["labels"]["alertname"] for alert in server.get("/api/v1/alerts")["alerts"]}
        assert "SessionFabricDown" not in firing
        empty = [f"{p.dashboard}: {p.title}: {p.expr}" for p in panels() if not server.query(p.expr)]
        assert len(empty) <= QUIET, empty
