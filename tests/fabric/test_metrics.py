"""What an agent's process counts, as a scraper reads it."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain
from session_fabric import AgentRun, Fabric, RunFailed, Session
from session_fabric.memory import MemoryBroker
from session_fabric.metrics import PrometheusMetrics
from session_fabric.sampling import Sampler
from session_fabric.tracing import PASSED_ON
from session_fabric.words.errors import BrokerUnavailable, PortBusy, RunClosed
from session_fabric.words.measures import ALL, OTHER, PRESENCE, RUNS_ACTIVE
from session_fabric.words.traces import TraceContext

from tests.fabric.test_agents import echo, ended, say, served
from tests.support.waiting import eventually

_P = "session_fabric_"


class Counted(NamedTuple):
    fabric: Fabric
    metrics: PrometheusMetrics
    broker: MemoryBroker

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(_P + name, labels) or 0.0

    @property
    def ada(self) -> Session:
        return self.fabric.view(participant="user:ada").session("chat-1")


@pytest.fixture
async def counted() -> AsyncIterator[Counted]:
    metrics, broker = PrometheusMetrics(), MemoryBroker()
    async with await Fabric.over(broker, participant="agent:writer", metrics=metrics) as fabric:
        yield Counted(fabric, metrics, broker)


async def test_a_run_is_counted_by_its_end_and_its_times_are_observed(counted: Counted) -> None:
    async with served(echo(counted.fabric)):
        run = await say(counted.ada, "two words")
        await ended(counted.ada, run)
        await eventually(lambda: counted.value("runs_total", end="success") == 1)
        assert counted.value("run_seconds_count") == 1
        assert counted.value("run_wait_seconds_count") == 1
        assert counted.value("run_first_text_seconds_count") == 1
        assert counted.value("deliveries_total", consumer="pool") == 1
        assert counted.value("redeliveries_total", consumer="pool") == 0
        assert counted.value("presence_changes_total", change="joined") == 1
        assert counted.value("lease_renewals_total", outcome="renewed") >= 1
    assert counted.value("runs_active") == 0
    assert counted.value("publishes_total", outcome="stored") == counted.value("publish_seconds_count") > 0


async def test_what_a_run_took_names_its_trace_and_what_each_token_took_does_not(counted: Counted) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with served(echo(counted.fabric)):
        with PASSED_ON.span("append", "server", {}, TraceContext(parent)):
            run = await say(counted.ada, "two words")
        await ended(counted.ada, run)
        await eventually(lambda: counted.value("runs_total", end="success") == 1)
    text = counted.metrics.text("application/openmetrics-text; version=1.0.0")[0].decode()
    named = {sample.name for family in open_metrics(text) for sample in family.samples if sample.exemplar is not None}
    assert named == {f"{_P}{name}_bucket" for name in ("run_seconds", "run_wait_seconds", "run_first_text_seconds")}
    assert text.count(f'trace_id="{"a" * 32}"') == 3


async def test_a_run_that_fails_for_good_is_counted_as_failed_and_as_a_dead_letter(counted: Counted) -> None:
    @counted.fabric.agent(retries=1)
    async def handler(run: AgentRun) -> None:
        raise ValueError("no")

    async with served(handler):
        await ended(counted.ada, await say(counted.ada, "hello"))
        await eventually(lambda: counted.value("runs_total", end="failed") == 1)
    assert counted.value("attempts_failed_total") == 1  # the last one is the run's failure
    assert counted.value("dead_letters_total") == 1


async def test_a_run_under_way_counts_as_active_and_one_that_others_have_taken_as_lost(counted: Counted) -> None:
    session = counted.fabric.session("chat-1")
    with pytest.raises(RunFailed):
        async with session.run():
            assert counted.value("runs_active") == 1
            raise RunFailed("no")
    assert counted.value("runs_total", end="failed") == 1
    with pytest.raises(RunClosed):
        async with session.run() as run:
            await counted.fabric.view(participant="agent:other").session("chat-1").abandon(run.id)
    assert counted.value("runs_total", end="lost") == 1  # by who wrote it
    assert counted.value("runs_total", end="agent_lost") == 1  # by who has ended it
    assert counted.value("runs_active") == 0


async def test_a_control_is_counted_by_its_outcome_with_the_time_it_took(counted: Counted) -> None:
    session = counted.fabric.session("chat-1")
    begun = asyncio.Event()

    async def work() -> None:
        async with session.run("r1") as run:
            await run.text("a")
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    await counted.ada.control("cancel", run="r1")
    await task
    assert counted.value("controls_total", outcome="accepted") == 1
    assert counted.value("control_seconds_count") == 1
    assert counted.value("runs_total", end="cancelled") == 1


async def test_lag_and_the_round_trip_are_looked_at_as_long_as_somebody_watches(counted: Counted) -> None:
    async with counted.fabric.subscribe(durable="indexer", kind="in") as work:
        await say(counted.ada, "hello")
        await say(counted.ada, "again", "q2")
        assert len(await work.fetch(1)) == 1
        broker, lease = counted.fabric._shared._measured, counted.fabric._shared.lease
        assert broker is not None
        looking = asyncio.create_task(Sampler(broker, lease, counted.metrics, ping_s=0.01, lag_s=0.01).run())
        await eventually(lambda: counted.value("consumer_waiting_events", consumer="subscription") == 1)
        assert counted.value("consumer_unacked_events", consumer="subscription") == 1
        await eventually(lambda: counted.value("broker_round_trip_seconds_count") > 1)
        counted.broker.disconnect()
        await eventually(lambda: counted.value("broker_pings_lost_total") > 1)
        counted.broker.reconnect()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_a_connection_that_is_lost_shows(counted: Counted) -> None:
    assert counted.value("broker_connected") == 1
    counted.broker.disconnect()
    assert counted.value("broker_connected") == 0
    assert counted.value("broker_disconnects_total") == 1
    with pytest.raises(BrokerUnavailable):
        await counted.fabric.broker.ping(0.1)


def test_what_has_not_happened_yet_is_zero_and_not_nothing() -> None:
    metrics = PrometheusMetrics()
    for measure in ALL:
        name = measure.name if not hasattr(measure, "buckets") else f"{measure.name}_count"
        for value in (*getattr(measure, "values", ()), OTHER) if getattr(measure, "label", None) else ("",):
            labels = {measure.label: value} if value else {}  # type: ignore[union-attr]
            assert metrics.registry.get_sample_value(name, labels) == 0, name


def test_a_label_outside_its_closed_set_counts_as_other() -> None:
    metrics = PrometheusMetrics()
    metrics.count(PRESENCE, "chat-42")
    assert metrics.registry.get_sample_value(PRESENCE.name, {"change": OTHER}) == 1


def test_names_are_prometheus_own_units_and_totals() -> None:
    for measure in ALL:
        kind = type(measure).__name__
        assert (kind == "Counter") == measure.name.endswith("_total")
        assert kind != "Histogram" or measure.name.endswith(("_seconds", "_bytes", "_events"))


def test_a_process_of_agents_is_scraped_on_a_port_of_its_own_in_either_format() -> None:
    metrics = PrometheusMetrics(component="support")
    metrics.add(RUNS_ACTIVE, 3)
    with metrics.serving(0) as port:
        text, kind = _get(port, "text/plain")
        assert kind.startswith("text/plain")
        families = {family.name: family for family in plain(text)}
        assert families["session_fabric_runs_active"].samples[0].value == 3
        assert families["session_fabric_build_info"].samples[0].labels["component"] == "support"
        text, kind = _get(port, "application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        assert {family.name for family in open_metrics(text)} >= {"session_fabric_runs_active"}
        with pytest.raises(PortBusy, match=f"Port {port} of 127.0.0.1 cannot be opened"), metrics.serving(port):
            pass


def _get(port: int, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]
