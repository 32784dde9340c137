"""What a gateway counts, as a scraper reads it."""

from __future__ import annotations

import signal
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from session_fabric import Fabric
from session_fabric.words.errors import BrokerRefused

from tests.gateway.conftest import Running
from tests.gateway.processes import gateway_process
from tests.gateway.sockets import greeted, user_message
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

_P = "session_fabric_gateway_"


def value(house: Running, name: str, **labels: str) -> float:
    return house.gateway.metrics.registry.get_sample_value(name, labels) or 0.0


async def scraped(url: str, accept: str = "") -> tuple[str, str]:
    headers = {"Accept": accept} if accept else {}
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics", headers=headers) as response:
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


def series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def use(house: Running, sessions: int, tenants: int, people: int) -> None:
    """Have so many people of so many tenants open, write, cancel and be refused in so many sessions."""
    for tenant in (f"{house.tenant}-{number}" for number in range(tenants)):
        for person in range(people):
            token = house.token(f"user:p{person}", tenant=tenant)
            async with greeted(house.url, token=token) as client:
                for session in range(sessions):
                    name = f"s{session}"
                    await client.ask("open", session=name, presence={"at": person})
                    await client.append(name, user_message("hello"))
                    await client.ask("control", session=name, run=f"r{session}", action="cancel")
                    await client.ask("who", session=name, nothing=f"field-{session}")


async def test_what_an_operator_has_to_mend_is_counted_as_no_defect_of_ours(
    house: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(error: Exception) -> None:
        async def ready() -> None:
            raise error

        monkeypatch.setattr(house.gateway, "ready", ready)
        async with aiohttp.ClientSession() as http, http.get(f"{house.url}/readyz") as response:
            assert response.status == 500

    await fails(BrokerRefused("The account may not."))
    assert value(house, f"{_P}refusals_total", code="internal") == 0
    assert value(house, f"{_P}refusals_total", code="http_500") == 1
    await fails(RuntimeError("a defect"))
    assert value(house, f"{_P}refusals_total", code="internal") == 1
    assert value(house, f"{_P}refusals_total", code="http_500") == 1


async def test_how_many_series_there_are_depends_on_no_session_tenant_or_participant(house: Running) -> None:
    await use(house, 1, 1, 1)
    before = series((await scraped(house.url))[0])
    await use(house, 5, 4, 3)
    text, _ = await scraped(house.url)
    assert series(text) == before
    for word in (house.tenant, "user:", "s4", "r4", "field-4"):
        assert word not in text


async def test_a_reader_that_comes_back_is_counted_by_where_what_it_missed_came_from(
    house: Running, agent: Fabric
) -> None:
    session = agent.session("s1")
    first = await session.append({"type": "app.note", "n": 0})
    for number in range(3):
        await session.append({"type": "app.note", "n": number})
    async with greeted(house.url, token=house.token()) as client:
        assert (await client.ask("open", session="s1", after=str(first.offset)))["op"] == "opened"
        await eventually(lambda: value(house, f"{_P}catch_up_seconds_count") == 1)
    assert value(house, f"{_P}resumes_total", outcome="log") == 1
    assert value(house, f"{_P}catch_up_events_sum") >= 3
    async with greeted(house.url, token=house.token()) as client:
        newest = str(await session.head())
        assert (await client.ask("open", session="s1", after=newest))["op"] == "opened"
        assert value(house, f"{_P}resumes_total", outcome="memory") == 1
        strange = "0000000000000001_0000000000000001"
        await client.ask("close", sub=1)
        refused = await client.ask("open", session="s2", after=strange)
        assert value(house, f"{_P}resumes_total", outcome=refused["code"]) == 1


async def test_tokens_that_are_refused_are_counted_by_why(house: Running) -> None:
    async with aiohttp.ClientSession() as http:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            async with http.get(f"{house.url}/v1/sessions", headers=headers) as response:
                assert response.status == 401
        headers = {"Authorization": f"Bearer {house.token(expires_in_s=-600)}"}
        async with http.get(f"{house.url}/v1/sessions", headers=headers) as response:
            assert response.status == 401
    for reason in ("missing", "malformed", "token_expired"):
        assert value(house, f"{_P}auth_refusals_total", reason=reason) == 1, reason


async def test_metrics_are_told_as_open_metrics_to_whoever_asks_for_it(house: Running) -> None:
    text, kind = await scraped(house.url, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    _, kind = await scraped(house.url)
    assert kind.startswith("text/plain; version=")


async def test_metrics_have_a_port_of_their_own_where_one_is_given_of_all_workers(
    own_server: NatsNode, tmp_path: Path
) -> None:
    options = ("--insecure", "--workers", "2", "--admin-port", "0", "--drain", "0")
    async with gateway_process(own_server.url, tmp_path, *options) as one:
        admin = one.said["admin"]
        text, _ = await scraped(admin)
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["session_fabric_broker_connected"].samples[0].value == 2
        assert families["session_fabric_build_info"].samples[0].labels["component"] == "gateway"
        async with aiohttp.ClientSession() as http:
            for path in ("/healthz", "/readyz"):
                for url in (admin, one.url):
                    async with http.get(url + path) as response:
                        assert response.status == 200
            async with http.get(f"{one.url}/metrics") as response:
                assert response.status == 404
            async with http.get(f"{admin}/v1/sessions") as response:
                assert response.status == 404
        one.send(signal.SIGTERM)
        assert await one.ended() == 0


async def test_what_took_how_long_names_a_trace_that_is_kept_and_no_series_more(house: Running) -> None:
    kept, dropped = (f"00-{letter * 32}-{letter * 16}-0{flag}" for letter, flag in (("a", 1), ("b", 0)))
    async with greeted(house.url, token=house.token()) as client:
        await client.append("s1", user_message("hello"))
        before = series((await scraped(house.url))[0])
        for number, parent in enumerate((kept, dropped)):
            event = {"body": user_message("hello", f"n{number}")}
            await client.ask("append", session="s1", event=event, traceparent=parent)
    text, _ = await scraped(house.url, "application/openmetrics-text; version=1.0.0")
    named = [line for line in text.splitlines() if "trace_id" in line]
    assert len(named) == 1
    assert named[0].startswith(f"{_P}append_seconds_bucket")
    assert f'# {{trace_id="{"a" * 32}"}}' in named[0]
    plain, _ = await scraped(house.url)
    assert "trace_id" not in plain
    assert series(plain) == before
