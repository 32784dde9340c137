"""A process's log is read by machines: one event a line, whoever wrote it, and nothing of what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from session_fabric.logs import form_of
from session_fabric.words.errors import InvalidRequest

PROGRAM = """
import asyncio, logging, structlog, warnings
from session_fabric import logs
from session_fabric.tracing import PASSED_ON
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.traces import TraceContext
logs.to_stderr("info", logs.form_of())
log = structlog.get_logger()
log.info("draining", connections=3)
log.debug("too fine")
logging.getLogger("aiohttp.server").warning("a %s with\\nlines", "word")
logging.getLogger("quiet").info("not a warning")
def fails():
    raise ValueError("a secret")
try:
    try:
        fails()
    except ValueError as error:
        raise BrokerUnavailable("another secret") from error
except BrokerUnavailable:
    logging.getLogger("nats").exception("it failed")
    log.exception("request_failed")
try:
    raise ExceptionGroup("a secret", [KeyError("a secret")])
except ExceptionGroup as group:
    log.error("task_failed", exc_info=group)
async def main():
    task = asyncio.ensure_future(asyncio.to_thread(fails))
    await asyncio.wait([task])
    del task
asyncio.run(main())
warnings.warn("an old way")
with PASSED_ON.span("append", "server", {}, TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")):
    log.warning("within")
    logging.getLogger("aiohttp").warning("within too")
"""


def said(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"} | environment,
    )
    assert done.stdout == ""
    assert "secret" not in done.stderr
    return done.stderr


def test_whoever_logs_a_line_is_one_json_object() -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in said().splitlines()]
    assert [(e["event"], e["level"], e.get("logger")) for e in events if e.get("logger") != "py.warnings"] == [
        ("draining", "info", None),
        ("a word with\nlines", "warning", "aiohttp.server"),
        ("it failed", "error", "nats"),
        ("request_failed", "error", None),
        ("task_failed", "error", None),
        ("Task exception was never retrieved", "error", "asyncio"),
        ("within", "warning", None),
        ("within too", "warning", "aiohttp"),
    ]
    assert all("timestamp" in event for event in events)
    (warned,) = [event for event in events if event.get("logger") == "py.warnings"]
    assert "an old way" in warned["event"]
    for event in events[2:4]:
        lines = event["exception"].splitlines()
        assert lines[2:4] == ["builtins.ValueError", "then:"]
        assert lines[-1] == "session_fabric.words.errors.BrokerUnavailable (broker_unavailable)"
        assert lines[1].endswith("in fails")
    assert events[4]["exception"].splitlines()[-1] == "builtins.KeyError"
    assert "builtins.ValueError" in events[5]["exception"]
    for event in events[-2:]:
        assert (event["trace_id"], event["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert all("trace_id" not in event for event in events[:-2])


def test_lines_for_people_are_asked_for() -> None:
    text = said(SESSION_FABRIC_LOG_FORMAT="console")
    first = text.splitlines()[0]
    assert "draining" in first
    assert "connections=3" in first
    assert not first.startswith("{")
    assert "\x1b" not in text  # colours are for terminals


def test_what_is_no_terminal_gets_json_and_a_wrong_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert form_of() == "json"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert form_of() == "console"
    monkeypatch.setenv("SESSION_FABRIC_LOG_FORMAT", "json")
    assert form_of() == "json"
    assert form_of("console") == "console"
    monkeypatch.setenv("SESSION_FABRIC_LOG_FORMAT", "xml")
    with pytest.raises(InvalidRequest, match="xml"):
        form_of()
