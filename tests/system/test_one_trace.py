"""What a page begins, the gateway takes in and an agent answers is one trace, with whoever collects traces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from session_fabric import Event, Fabric
from session_fabric.jetstream.credentials import VARIABLE
from session_fabric.otlp import exporting
from session_fabric.words.errors import InvalidRequest

from tests.cli.dev.test_dev import Dev
from tests.gateway.processes import gateway_process
from tests.gateway.sockets import greeted, user_message
from tests.support.collector import collecting
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

PAGE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, CLICK = PAGE[3:35], PAGE[36:52]
SECRET = "nobody else is to read this"


async def test_page_gateway_broker_and_agent_are_one_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=k1")
        dev = Dev(tmp_path, "--port", "0", "--data", str(tmp_path / "data"))
        try:
            said = (await dev.ready()).said
            head = {"Authorization": f"Bearer {said['token']}", "traceparent": PAGE}
            body = {"id": "q1", "body": user_message(SECRET)}
            async with aiohttp.ClientSession(said["url"]) as http:
                async with http.post("/v1/sessions/chat-1/events", json=body, headers=head) as response:
                    assert response.status == 201
                monkeypatch.setenv(VARIABLE, said["nats_credentials"])
                async with Fabric.connect(said["nats"], tenant="default", participant="operator:reader") as fabric:

                    async def answered() -> Event | None:
                        events = (await fabric.session("chat-1").history(limit=1000)).events
                        return next((event for event in events if event.type == "RUN_FINISHED"), None)

                    answer = await eventually(answered, 30)
            assert await dev.stop(signal.SIGTERM) == 0  # what was not sent yet is sent then
            await dev.nothing_left()
        finally:
            dev.end()
    spans = collector.of(TRACE)
    asked, run = spans["POST /v1/sessions/{session}/events"], spans["invoke_agent default"]
    assert (asked.service, asked.parent_id) == ("session-fabric-gateway", CLICK)
    assert (run.service, run.parent_id) == ("session-fabric-demo-agent", asked.span_id)
    assert answer.trace is not None
    assert answer.trace.trace_id == TRACE
    assert SECRET not in str(collector.spans)
    assert "chat-1" not in "".join(span.name for span in collector.spans)
    assert {head["x-collector-key"] for head in collector.heads} == {"k1"}


async def test_workers_send_what_they_have_when_they_are_stopped(
    own_server: NatsNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # not by the clock
        monkeypatch.setenv("OTEL_SERVICE_NAME", "house")
        async with gateway_process(own_server.url, tmp_path, "--insecure", "--workers", "2", "--drain", "0") as one:
            async with greeted(one.url) as client:
                answer = await client.ask(
                    "append", session="s1", traceparent=PAGE, event={"id": "q1", "body": user_message(SECRET)}
                )
                assert answer["op"] == "appended"
            assert collector.spans == []
            one.send(signal.SIGTERM)
            assert await one.ended() == 0
    span = collector.of(TRACE)["session-fabric.v1/append"]
    assert (span.service, span.parent_id) == ("house", CLICK)


async def test_a_collector_that_is_not_there_keeps_nobody(
    own_server: NatsNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        gone = collector.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gone)
    async with gateway_process(own_server.url, tmp_path, "--insecure", "--drain", "0") as one:
        async with greeted(one.url) as client:
            assert (await client.append("s1", user_message("hello")))["op"] == "appended"
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    assert SECRET not in one.log.read_text()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_where_no_endpoint_is_set_nothing_is_made(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with exporting("one") as traces:
        assert traces is None


@pytest.mark.parametrize(("name", "value"), [("EXPORTER_OTLP_PROTOCOL", "grpc"), ("TRACES_EXPORTER", "zipkin")])
def test_what_is_not_spoken_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(f"OTEL_{name}", value)
    with pytest.raises(InvalidRequest, match=value), exporting("one"):
        pass


UNSET = """
import sys
from session_fabric.otlp import exporting
import session_fabric_gateway.main
with exporting("one") as traces:
    assert traces is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_where_no_endpoint_is_set_nothing_of_opentelemetry_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", UNSET], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


WITHOUT = """
import sys
sys.modules["opentelemetry.sdk"] = None  # as where the extra is not installed
from session_fabric_gateway.main import main
sys.exit(main(["--insecure", "--port", "0"]))
"""


def test_an_endpoint_without_what_sends_there_ends_the_gateway_with_a_sentence() -> None:
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert "pip install 'session-fabric[otlp]'" in done.stderr
    assert "Traceback" not in done.stderr
