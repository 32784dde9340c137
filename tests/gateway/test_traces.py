"""What a page says it is part of is where the gateway's and the agent's work is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from session_fabric import AgentRun, Event, Fabric
from session_fabric.otel import OpenTelemetryTraces
from session_fabric.rules.routing import run_of_input
from session_fabric.words.traces import TraceContext

from tests.fabric.test_agents import ended, served
from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import greeted, user_message
from tests.support.waiting import eventually

PAGE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = PAGE[3:35]


class Kept:
    """Spans of one process, as its OpenTelemetry would export them."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.traces = OpenTelemetryTraces(provider)

    def names(self) -> list[str]:
        return [span.name for span in self._spans.get_finished_spans()]

    async def one(self, name: str) -> ReadableSpan:
        """Return the span of this name, once it has ended."""

        async def found() -> list[ReadableSpan]:
            return [span for span in self._spans.get_finished_spans() if span.name == name]

        (span,) = await eventually(found)
        return span


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def above(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
async def traced(start: Start, kept: Kept) -> AsyncIterator[Running]:
    """A gateway with spans of its own."""
    async with start(traces=kept.traces) as one:
        yield one


async def stored(fabric: Fabric, session: str) -> list[Event]:
    return (await fabric.session(session).history(limit=1000)).events


@pytest.mark.parametrize("by", ["socket", "http"])
async def test_what_an_agent_answers_is_in_the_trace_of_the_page_that_asked(
    traced: Running, kept: Kept, broker_url: str, by: str
) -> None:
    agents = Kept()
    token = traced.token()
    async with Fabric.connect(
        broker_url, tenant=traced.tenant, participant="agent:writer", traces=agents.traces
    ) as fabric:

        @fabric.agent(pool="default")
        async def handler(run: AgentRun) -> None:
            await run.text("an answer")

        async with served(handler), aiohttp.ClientSession(traced.url) as http, greeted(traced.url, token) as client:
            if by == "socket":
                carried = {"traceparent": PAGE, "tracestate": "vendor=1"}
                event = {"id": "q1", "body": user_message("hello")}
                answer = await client.ask("append", session="s1", event=event, **carried)
                assert answer["op"] == "appended", answer
                name = "session-fabric.v1/append"
            else:
                head = {"Authorization": f"Bearer {token}", "traceparent": PAGE, "tracestate": "vendor=1"}
                body = {"id": "q1", "body": user_message("hello")}
                async with http.post("/v1/sessions/s1/events", json=body, headers=head) as response:
                    assert response.status == 201
                name = "POST /v1/sessions/{session}/events"
            await ended(fabric.session("s1"), run_of_input("q1"))
            server, answering = await kept.one(name), await agents.one("invoke_agent default")
        events = await stored(fabric, "s1")
    assert (trace_of(server), above(server), server.kind) == (TRACE, PAGE[36:52], SpanKind.SERVER)
    assert server.context.trace_state.get("vendor") == "1"
    assert server.attributes is not None
    assert server.attributes["gen_ai.conversation.id"] == "s1"
    assert server.status.status_code is StatusCode.UNSET
    assert (trace_of(answering), above(answering)) == (TRACE, f"{server.context.span_id:016x}")
    carriers = {event.type: event.trace for event in events}
    for type in ("message.user", "RUN_STARTED", "message.completed", "RUN_FINISHED"):
        trace = carriers[type]
        assert trace is not None, type
        assert trace.trace_id == TRACE, type
    # What the gateway writes on its own account belongs to nobody's trace, whoever was the first to need it.
    assert all(trace is None for type, trace in carriers.items() if type.startswith("presence."))


async def test_a_gateway_without_spans_passes_on_what_came(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as client:
        event = {"id": "q1", "body": user_message("hello")}
        await client.open("s1", traceparent=PAGE, presence={})
        await client.ask("append", session="s1", event=event, traceparent=PAGE, tracestate="a=1, b=2")
        await client.ask("append", session="s1", event={"id": "q2", "body": user_message("more", "m2")})
        there = await eventually(lambda: _joined(agent, "s1"))
    traces = {event.id: event.trace for event in await stored(agent, "s1")}
    assert traces["q1"] == TraceContext(PAGE, "a=1, b=2")
    assert traces["q2"] is None
    assert there.trace is None


async def _joined(fabric: Fabric, session: str) -> Event | None:
    return next((event for event in await stored(fabric, session) if event.type == "presence.joined"), None)


WRONG: list[Any] = [
    *("", "00", PAGE.upper(), PAGE.replace("00-", "ff-", 1), PAGE + "-00", "x" * 5000, 7, None, {"a": 1}),
    *(f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{TRACE}-{'0' * 16}-01"),
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_trace_is_passed_over_and_refuses_nothing(house: Running, agent: Fabric, wrong: Any) -> None:
    async with greeted(house.url, house.token()) as client:
        event = {"id": "q1", "body": user_message("hello")}
        answer = await client.ask("append", session="s1", event=event, traceparent=wrong, tracestate=["a=1"])
        assert answer["op"] == "appended", answer
    traces = [event.trace for event in await stored(agent, "s1") if event.id == "q1"]
    assert traces == [None]


async def test_of_two_parents_in_a_head_neither_counts(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    head = CIMultiDict([("traceparent", PAGE), ("traceparent", PAGE.replace("0af7", "0af8"))])
    body = {"id": "q1", "body": user_message("hello")}
    async with http.post("/v1/sessions/s1/events", json=body, headers=head) as response:
        assert response.status == 201
    assert [event.trace for event in await stored(agent, "s1") if event.id == "q1"] == [None]


async def test_names_of_spans_are_of_a_closed_set_and_refusals_are_no_failures(traced: Running, kept: Kept) -> None:
    async with (
        aiohttp.ClientSession(traced.url, headers={"Authorization": f"Bearer {traced.token()}"}) as http,
        greeted(traced.url, traced.token()) as client,
    ):
        for path in ("/v1/sessions/a-name", "/v1/a-name", "/healthz", "/metrics"):
            async with http.get(path) as response:
                await response.read()
        async with http.request("PROPFIND", "/v1/sessions/a-name") as response:
            await response.read()
        refused = await client.ask("state.put", session="a-name", document="a-name", body=7)
        assert refused["op"] == "error"
        span = await kept.one("session-fabric.v1/state.put")
    assert sorted(kept.names()) == ["GET", "GET /v1/sessions/{session}", "HTTP", "session-fabric.v1/state.put"]
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert span.attributes["session_fabric.code"] == refused["code"]


async def test_pages_of_listed_origins_may_send_a_trace(start: Start) -> None:
    async with start(allow_origin=("https://app.example",)) as house, aiohttp.ClientSession(house.url) as http:
        asked = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "traceparent",
        }
        async with http.options("/v1/sessions/s1/events", headers=asked) as response:
            allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert "traceparent" in allowed
    assert "tracestate" in allowed


async def test_durable_streams_take_a_trace_and_read_as_ever(traced: Running, kept: Kept) -> None:
    head = {"Authorization": f"Bearer {traced.token(sessions={'*': ['*']})}", "Content-Type": "text/plain"}
    async with aiohttp.ClientSession(traced.url, headers=head) as http:
        async with http.put("/v1/stream/notes/a", headers={"traceparent": PAGE}) as response:
            assert response.status == 201, await response.text()
        async with http.post("/v1/stream/notes/a", data=b"one", headers={"traceparent": PAGE}) as response:
            assert response.status == 204
        async with http.get("/v1/stream/notes/a", params={"offset": "-1"}) as response:
            assert await response.read() == b"one"
    spans = [name for name in kept.names() if name.startswith("POST")]
    assert spans == ["POST /v1/stream/{path}"]


async def test_what_stays_begins_in_nobodys_trace(house: Running, agent: Fabric) -> None:
    """The first to open a session, to watch it and to show presence begin what serves all others too."""
    async with greeted(house.url, house.token()) as first, greeted(house.url, house.token("user:bob")) as second:
        await first.open("s1", traceparent=PAGE, presence={})
        await first.ask("state.watch", session="s1", traceparent=PAGE)
        await first.ask("presence", session="s1", data={"at": 1}, traceparent=PAGE)
        await second.open("s1", presence={})
        await second.append("s1", user_message("hello"), id="q1")
        joined = await eventually(lambda: _presences(agent, "s1", 2))
    assert [event.trace for event in joined] == [None] * len(joined)


async def _presences(fabric: Fabric, session: str, least: int) -> list[Event]:
    found = [event for event in await stored(fabric, session) if event.type == "presence.joined"]
    return found if len(found) >= least else []
