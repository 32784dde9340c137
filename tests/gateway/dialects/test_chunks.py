"""A run as the AI SDK's chunks: the same message however its events come, and steps that its clients do not resend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric import Offset
from session_fabric.words.wire import Record
from session_fabric_gateway.dialects.ai_sdk.chunks import Chunks, Settled
from session_fabric_gateway.dialects.ai_sdk.messages import Transcript, UIMessage
from session_fabric_gateway.dialects.ai_sdk.parts import METADATA, Reader, Version

from tests.gateway.dialects.logs import RUN, Log, logs, readings, stored

ADA = Reader("user:ada")


def chunks(
    records: Sequence[Record], reader: Reader = ADA, upto: Offset | None = None, settled: Settled | None = None
) -> list[dict[str, Any]]:
    telling = Chunks(RUN, reader, upto, settled=settled)
    return [orjson.loads(chunk) for record in records for chunk in telling.add(record)]


def message(all: Sequence[dict[str, Any]]) -> UIMessage:
    found = UIMessage("none")
    for chunk in all:
        found.add(chunk)
    return found


def view(found: UIMessage) -> dict[str, Any]:
    """Return what a reader sees of a message: its texts whole, its tools, its data, how it ended."""
    texts: dict[str, str] = {}
    for part in found.parts:
        if part["type"] in ("text", "reasoning"):
            texts[part["type"]] = texts.get(part["type"], "") + part["text"]
    others = [part for part in found.parts if part["type"] not in ("text", "reasoning", "step-start")]
    unfinished = [part for part in found.parts if part.get("state") == "streaming"]
    return {"id": found.id, "texts": texts, "others": others, "unfinished": unfinished, "ended": found.metadata}


@given(st.data())
def test_whatever_is_stored_live_or_rewound_the_message_is_the_same(data: st.DataObject) -> None:
    log = data.draw(logs())
    assert view(message(chunks(data.draw(readings(log))))) == view(message(chunks(log.records)))


@given(st.data())
def test_chunks_begin_and_end_what_they_continue(data: st.DataObject) -> None:
    came = chunks(data.draw(readings(data.draw(logs()))))
    assert [chunk["type"] for chunk in came][:1] == ["start"]
    assert [chunk["type"] for chunk in came][-1:] == ["finish"]
    open: set[tuple[str, str]] = set()
    step = False
    for chunk in came:
        kind, _, what = chunk["type"].partition("-")
        if chunk["type"] == "start-step":
            assert not step
            step = True
        elif chunk["type"] == "finish-step":
            assert step
            step = False
        elif kind in ("text", "reasoning"):
            key = (kind, chunk["id"])
            assert (key in open) == (what != "start")
            open ^= {key} if what != "delta" else set()
            assert step or what == "end"
    assert not open
    assert not step


@given(st.data())
def test_a_page_that_is_loaded_has_what_its_stream_would_have(data: st.DataObject) -> None:
    log = data.draw(logs())
    transcript = Transcript(ADA)
    transcript.add(stored(log.records))
    (loaded,) = transcript.messages()
    found = UIMessage(loaded["id"])
    found.parts, found.metadata = loaded["parts"], loaded.get("metadata", {})
    assert view(found) == view(message(chunks(log.records)))


@given(st.data())
def test_who_has_a_part_of_it_gets_the_rest(data: st.DataObject) -> None:
    log = data.draw(logs())
    at = data.draw(st.integers(1, len(log.records)))
    upto = log.records[at - 1].offset
    known = message(chunks(log.records[:at]))
    for chunk in chunks(log.records, upto=upto):
        known.add(chunk)
    whole = message(chunks(log.records))
    assert {**view(known), "unfinished": [], "ended": {}} == {**view(whole), "unfinished": [], "ended": {}}


def _types(log: Log, version: Version = 7) -> list[str]:
    return [chunk["type"] for chunk in chunks(log.records, Reader("user:ada", version))]


def test_a_run_that_ends_with_a_tool_has_a_last_step_without_one() -> None:
    # `lastAssistantMessageIsCompleteWithToolCalls` would have it sent again, and again.
    log = Log()
    log.started()
    log.call("c1", "look", "{}")
    log.result("c1", "done")
    log.finished()
    parts = message(chunks(log.records)).parts
    assert [part["type"] for part in parts] == ["step-start", "tool-look", "step-start"]


def test_what_a_tool_of_a_run_that_was_stopped_had_to_give_is_an_error() -> None:
    log = Log()
    log.started()
    log.call("c1", "look", "{}")
    log.finished("cancelled")
    (part,) = [part for part in message(chunks(log.records)).parts if "toolCallId" in part]
    assert (part["state"], part["errorText"]) == ("output-error", "run_closed: the run ended before.")
    finish = chunks(log.records)[-1]
    assert (finish["finishReason"], finish["messageMetadata"][METADATA]["outcome"]) == ("interrupted", "cancelled")
    assert chunks(log.records, Reader("user:ada", 6))[-1]["finishReason"] == "other"


@pytest.mark.parametrize(("args", "state"), [('{"a":1}', "input-available"), ("{oops", "output-error")])
def test_arguments_that_are_not_json_are_an_error_of_the_call(args: str, state: str) -> None:
    log = Log()
    log.started()
    log.call("c1", "look", args, streamed=True)
    (part,) = [part for part in message(chunks(log.records)).parts if "toolCallId" in part]
    assert part["state"] == state


def test_what_is_asked_of_somebody_else_is_shown_and_waited_for() -> None:
    log = Log()
    log.started()
    log.add("input.requested", more={"kind": "approval"}, request="q1", title="Refund?", to="role:operator")
    log.add("run.suspended", kind="own", request="q1")
    assert _types(log) == ["start", "data-request"]
    log.add("input.answered", kind="own", name="request/q1", request="q1", by="operator:eve", body={"approved": True})
    log.add("run.resumed", kind="own", request="q1")
    log.piece("m1", "Done.")
    log.complete("m1")
    log.finished()
    assert _types(log)[-4:] == ["text-delta", "text-end", "finish-step", "finish"]


def _asking(log: Log) -> str:
    log.started()
    request = log.add("input.requested", more={"kind": "approval"}, title="Refund?").id
    log.add("run.suspended", kind="own", request=request)
    return request


def test_the_stream_ends_where_the_run_waits_for_this_participant() -> None:
    log = Log()
    request = _asking(log)
    came = chunks(log.records)
    assert [chunk["type"] for chunk in came][-3:] == ["tool-approval-request", "finish-step", "finish"]
    assert came[-1]["finishReason"] == "tool-calls"
    assert came[-3]["approvalId"] == request


@pytest.mark.parametrize(("version", "said"), [(7, ["tool-approval-response"]), (6, [])])
def test_behind_the_answer_the_same_message_goes_on(version: Version, said: list[str]) -> None:
    log = Log()
    request = _asking(log)
    upto = log.records[-1].offset
    body = {"approved": False, "comment": "no"}
    log.add("input.answered", kind="own", name=f"request/{request}", request=request, by="user:ada", body=body)
    log.add("run.resumed", kind="own", request=request)
    log.piece("m1", "Refused.")
    log.complete("m1")
    log.finished()
    came = chunks(log.records, Reader("user:ada", version), upto)
    assert came[0] == {"type": "start", "messageId": RUN, "messageMetadata": {METADATA: {"run": RUN}}}
    assert [chunk["type"] for chunk in came[1:]] == [
        *said,
        *("tool-output-denied", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"),
    ]


def test_behind_the_answer_only_the_rest_is_said_where_the_pieces_are_gone() -> None:
    log = Log()
    request = _asking(log)
    upto = log.records[-1].offset
    body = {"approved": True}
    log.add("input.answered", kind="own", name=f"request/{request}", request=request, by="user:ada", body=body)
    log.add("run.resumed", kind="own", request=request)
    log.piece("m1", "Well, done.")
    log.complete("m1")
    log.finished()
    telling = Chunks(RUN, ADA, upto)
    telling.seed({("m1", "text"): len("Well, ")})
    came = [orjson.loads(chunk) for record in log.records for chunk in telling.add(record)]
    assert [chunk["delta"] for chunk in came if chunk["type"] == "text-delta"] == ["done."]


def test_who_answers_before_the_run_says_that_it_waits_hears_the_rest() -> None:
    log = Log()
    log.started()
    log.piece("m1", "Well, ")
    request = log.add("input.requested", more={"kind": "approval"}, title="Refund?").id
    upto = log.records[-1].offset
    body = {"approved": True}
    log.add("input.answered", kind="own", name=f"request/{request}", request=request, by="user:ada", body=body)
    settled = Settled(log.records[-1].offset, frozenset())
    log.add("run.suspended", kind="own", request=request)
    log.add("run.resumed", kind="own", request=request)
    log.piece("m1", "done.")
    log.complete("m1")
    log.finished()
    came = chunks(log.records, upto=upto, settled=settled)
    assert [chunk["type"] for chunk in came].count("finish") == 1
    assert came[-1]["finishReason"] == "stop"
    assert [chunk["type"] for chunk in came if chunk["type"].startswith("text")] == [
        *("text-start", "text-delta", "text-end"),
    ]


def test_a_replay_goes_on_behind_what_is_answered_and_ends_at_what_is_not() -> None:
    log = Log()
    first = _asking(log)
    answer = {"request": first, "by": "user:ada", "body": {"approved": True}}
    log.add("input.answered", kind="own", name=f"request/{first}", **answer)
    log.add("run.resumed", kind="own", request=first)
    second = log.add("input.requested", more={"kind": "approval"}, title="Sure?").id
    log.add("run.suspended", kind="own", request=second)
    settled = Settled(log.records[-1].offset, frozenset([second]))
    came = chunks(log.records, settled=settled)
    assert [chunk["type"] for chunk in came].count("finish") == 1
    assert [chunk["approvalId"] for chunk in came if chunk["type"] == "tool-approval-request"] == [first, second]
    assert message(came).parts[1]["state"] == "output-available"
    # What is asked later is waited for, whatever was answered when the replay began.
    assert came[-1]["finishReason"] == "tool-calls"
    assert chunks(log.records, settled=Settled(log.records[0].offset, frozenset()))[-1]["type"] == "finish"


@pytest.mark.parametrize(("type", "text"), [("message.rejected", "busy: "), ("message.expired", "no_agent: ")])
def test_an_input_that_nobody_takes_is_an_error(type: str, text: str) -> None:
    log = Log()
    log.add(type, kind="own", reason=text[:-2])
    (error,) = chunks(log.records)
    assert error["type"] == "error"
    assert error["errorText"].startswith(text)


def test_what_no_longer_has_a_beginning_is_told_all_the_same() -> None:
    log = Log()
    log.started()
    log.call("gone", "look", "{}")
    log.piece("m1", "Kept.")
    log.result("gone", "3")
    log.complete("m1")
    log.finished()
    left = [record for record in log.records if record.type not in ("RUN_STARTED", "TOOL_CALL_START")]
    assert [chunk["type"] for chunk in chunks(left)] == [
        *("start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"),
    ]
