"""One trace from what somebody says to what is answered, by OpenTelemetry's own SDK."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from session_fabric import AgentRun, Fabric
from session_fabric.memory import MemoryBroker
from session_fabric.otel import OpenTelemetryTraces
from session_fabric.tracing import PassedOn
from session_fabric.words.traces import TraceContext, parse_trace

from tests.fabric.test_agents import ended, events, say, served

BROWSER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_what_an_agent_does_is_in_the_trace_of_what_it_was_asked_and_so_is_its_answer() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    traces = OpenTelemetryTraces(provider)
    model = provider.get_tracer("a model's client")
    async with await Fabric.over(MemoryBroker(), participant="agent:writer", traces=traces) as fabric:
        ada = fabric.view(participant="user:ada").session("chat-1")

        @fabric.agent(pool="default")
        async def handler(run: AgentRun) -> None:
            with model.start_as_current_span("chat a-model"):
                await run.text("an answer")

        async with served(handler):
            with traces.span("a click", "client", {}, TraceContext(BROWSER)):
                run = await say(ada, "hello")
            await ended(ada, run)
        stored = await events(ada)
    spans = {span.name: span for span in kept.get_finished_spans()}
    click, answer, call = spans["a click"], spans["invoke_agent default"], spans["chat a-model"]
    assert {trace.format_trace_id(s.context.trace_id) for s in spans.values()} == {BROWSER[3:35]}
    assert answer.parent is not None
    assert answer.parent.span_id == click.context.span_id
    assert call.parent is not None
    assert call.parent.span_id == answer.context.span_id
    assert answer.attributes is not None
    assert answer.attributes["gen_ai.conversation.id"] == "chat-1"
    for event in stored:
        if event.type in ("message.user", "RUN_STARTED", "message.completed", "RUN_FINISHED"):
            assert event.trace is not None, event.type
            assert event.trace.trace_id == BROWSER[3:35], event.type
        if event.at is not None:
            assert event.trace is None  # a header would be longer than what a token says


async def test_what_a_failing_handler_says_is_in_no_span() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    traces = OpenTelemetryTraces(provider)
    with pytest.raises(ValueError, match="a secret"), traces.span("work", "internal", {}):
        raise ValueError("a secret")
    (span,) = kept.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "secret" not in span.to_json()


async def test_without_opentelemetry_a_trace_is_passed_on_with_what_is_stored() -> None:
    traces = PassedOn()
    async with await Fabric.over(MemoryBroker(), participant="user:ada", traces=traces) as fabric:
        session = fabric.session("chat-1")
        with traces.span("append", "server", {}, TraceContext(BROWSER)):
            await say(session, "hello")
        assert [e.trace for e in await events(session) if e.type == "message.user"] == [TraceContext(BROWSER)]


@pytest.mark.parametrize("wrong", [None, "", "00-xyz", BROWSER.replace("0af7", "ZZZZ"), BROWSER + "\r\nX: 1"])
def test_a_malformed_trace_counts_as_none(wrong: str | None) -> None:
    assert parse_trace(wrong) is None


@pytest.mark.parametrize("later", ["01", "cc", "fe"])
@pytest.mark.parametrize(("flags", "known"), [("01", "01"), ("00", "00"), ("ff", "01"), ("02", "00")])
def test_what_is_known_of_a_later_version_is_read_as_the_first(later: str, flags: str, known: str) -> None:
    for rest in ("", "-", "-what-will-be"):
        assert parse_trace(f"{later}{BROWSER[2:-2]}{flags}{rest}") == TraceContext(f"{BROWSER[:-2]}{known}")
    assert parse_trace(f"{later}{BROWSER[2:-2]}{flags}x") is None
    assert parse_trace(f"{BROWSER}-more") is None  # the first version has no more


@pytest.mark.parametrize(
    "state", ["a=1", "a=1,b=2", " a=1 ,\tb=2".replace("\t", " "), "tenant@system=x y", f"a={'v' * 200}", "a=1,,b=2"]
)
def test_a_good_state_is_passed_on_as_it_came(state: str) -> None:
    assert parse_trace(BROWSER, state) == TraceContext(BROWSER, state)


@pytest.mark.parametrize(
    "state",
    [
        *("", " ", ",", "a", "A=1", "=1", "a=1=2", "a=", "a=1\r\nX: 1", "a=\u00e9", "a=1\t", f"a={'v' * 600}"),
        ",".join(f"k{number}=1" for number in range(33)),
        7,
        ["a=1"],
    ],
)
def test_a_wrong_state_is_left_out_and_the_parent_counts(state: object) -> None:
    assert parse_trace(BROWSER, state) == TraceContext(BROWSER)
