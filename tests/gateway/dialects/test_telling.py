"""Each piece of text is told once, each milestone once, however a run's events come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.events import REASONING_CONTENT, TEXT_CONTENT, TOOL_ARGS, utf16_length
from session_fabric.words.wire import Record
from session_fabric_gateway.dialects.telling import Closed, Happened, Opened, Over, Piece, Telling, Told, units_of

from tests.gateway.dialects.logs import RUN, Log, logs, readings
from tests.gateway.records import record

_PART = {TEXT_CONTENT: "text", REASONING_CONTENT: "reasoning", TOOL_ARGS: "args"}


def told(records: Sequence[Record]) -> list[Told]:
    telling = Telling(RUN)
    return [one for each in records for one in telling.add(each)]


def texts(all: Sequence[Told]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = defaultdict(str)
    for one in all:
        if isinstance(one, Piece):
            found[one.of, one.part] += orjson.loads(one.text)
    return dict(found)


@given(st.data())
def test_whatever_is_stored_live_or_rewound_the_same_is_told_once(data: st.DataObject) -> None:
    log = data.draw(logs())
    came = data.draw(readings(log))
    all = told(came)
    assert texts(all) == {
        **{(of, _PART[type]): text for (of, type), text in log.texts.items()},
        **{(one.of, "args"): '{"q":"x"}' for one in all if isinstance(one, Piece) and one.part == "args"},
    }
    milestones = [one.id for one in all if isinstance(one, Happened)]
    assert len(milestones) == len(set(milestones))
    assert sorted(milestones) == sorted(one.id for one in told(log.records) if isinstance(one, Happened))
    assert [one for one in all if isinstance(one, Over)] == all[-1:]
    opened = [one.message for one in all if isinstance(one, Opened)]
    assert sorted(opened) == sorted(one.message for one in all if isinstance(one, Closed))


def test_a_message_is_open_before_its_text_and_closed_behind_it() -> None:
    log = Log()
    log.started()
    log.piece("m1", "Hel")
    log.piece("m1", "lo")
    log.complete("m1")
    log.finished()
    assert [type(one).__name__ for one in told(log.records)] == [
        *("Happened", "Opened", "Piece", "Piece", "Closed", "Over")
    ]


def test_text_is_the_json_that_is_stored_unless_it_has_to_be_cut() -> None:
    log = Log()
    log.piece("m1", "é🙂")
    log.piece("m1", "x")
    telling = Telling(RUN)
    first = log.records[0]
    pieces = [one for one in telling.add(first) if isinstance(one, Piece)]
    assert pieces[0].text is first.payload


def test_a_delta_that_leaves_a_hole_waits_for_what_covers_it() -> None:
    log = Log()
    for text in ("a", "b", "c"):
        log.piece("m1", text)
    log.snapshot("m1")
    first, _, third, snapshot = log.records
    assert texts(told([first, third])) == {("m1", "text"): "a"}
    assert texts(told([first, third, snapshot])) == {("m1", "text"): "abc"}


def test_what_is_of_another_run_is_not_told() -> None:
    assert told([record(1, "RUN_STARTED", kind="own", name="run-2", **{"Sf-Run": "run-2"})]) == []


@pytest.mark.parametrize("type", ["message.rejected", "message.expired", "message.steered"])
def test_an_input_without_a_run_of_its_own_is_over(type: str) -> None:
    log = Log()
    log.add(type, kind="own", reason="busy")
    (over,) = told(log.records)
    assert isinstance(over, Over)
    assert over.type == type


def test_a_run_that_takes_another_input_goes_on() -> None:
    log = Log()
    log.add("message.steered", kind="own", name="run-of-the-other", run=RUN)
    log.finished()
    assert [type(one) for one in told(log.records)] == [Happened, Over]


def test_what_a_failed_attempt_said_is_forgotten_and_may_be_said_again() -> None:
    log = Log()
    log.piece("m1", "wrong")
    log.add("STEP_STARTED", stepName="attempt", attempt=2, supersedes=["m1"])
    log.texts.clear()
    log.piece("m1", "right")
    log.complete("m1")
    pieces = [orjson.loads(one.text) for one in told(log.records) if isinstance(one, Piece)]
    assert pieces == ["wrong", "right"]


@given(st.text())
def test_units_are_counted_as_a_browser_does(text: str) -> None:
    assert units_of(orjson.dumps(text)) == utf16_length(text)


def test_what_is_no_delta_is_passed_over() -> None:
    bad = record(1, TEXT_CONTENT, kind="tok", name=RUN, payload=b"{", **{"Sf-Delta": "0 m1"})
    assert told([bad]) == []
