"""What processes note is a history: also of those that were killed in the middle of a line."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path

from tests.fault.clock import step_by
from tests.fault.history import Call, Event, Got, Marked, Opened, Rewound
from tests.fault.journal import Calls, Journal, collect
from tests.fault.run_rules import Texts

EVENT = Event("1_1", "e1", "app.note", "user:a", body={"type": "app.note"})


def test_what_a_reader_notes_is_its_reading_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "f1.1")
    journal.opened("f1.1", "s0", "start")
    journal.got("f1.1", "s0", [EVENT])
    journal.rewound("f1.1", "s0", "1_0")
    journal.marked("f1.1", "s0", "1_1")
    journal.note("upto", reader="f1.1", session="s0", offset="1_1")
    (reading,) = collect(tmp_path).readings
    assert [type(step) for step in reading.steps] == [Opened, Got, Rewound, Marked]
    assert (reading.who, reading.session, reading.upto) == ("f1.1", "s0", "1_1")
    assert [step.event for step in reading.steps if isinstance(step, Got)] == [EVENT]


def test_a_line_that_was_cut_off_is_left_out_and_what_has_no_end_is_unknown(tmp_path: Path) -> None:
    calls = Calls(Journal(tmp_path, "p1.1"))
    first = calls.invoked("note", "n1", "s0", "user:p1")
    calls.done(first, "ok", "1_1")
    calls.invoked("note", "n2", "s0", "user:p1")
    with (tmp_path / "p1.1.jsonl").open("ab") as file:
        file.write(b'{"kind":"done","who":"p1.1","call":2,"outc')
    told: list[Call] = list(collect(tmp_path).calls)
    assert [(call.id, call.outcome, call.offset) for call in told] == [("n1", "ok", "1_1"), ("n2", "unknown", None)]


def test_the_times_of_the_broker_are_those_of_everything_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "trial")
    journal.note("clock", wall=1_000_000.0)
    journal.note("stored", session="s0", events=[{**EVENT.__dict__, "ts": 1_000_042_000.0}])
    assert collect(tmp_path).stored["s0"][0].ts == 42.0


def test_a_text_is_folded_from_pieces_that_come_twice_late_or_after_what_replaces_them() -> None:
    def piece(at: int, text: str) -> Event:
        body = {"messageId": "m", "delta": text}
        return Event(f"1_{at}", None, "TEXT_MESSAGE_CONTENT", "agent:a", "r", at, body=body)

    texts = Texts()
    for event in (piece(0, "é😀"), piece(5, "c"), piece(0, "é😀a"), piece(4, "b")):
        texts.add(event)
    assert texts.of("r") == "é😀abc"
    texts.add(Event("1_9", "e", "message.completed", "agent:a", "r", body={"message": {"id": "m", "content": "whole"}}))
    texts.add(piece(5, " and more"))
    assert texts.of("r") == "whole"


def test_a_clock_that_is_stepped_is_wrong_and_time_that_passes_is_not() -> None:
    context = get_context("fork")
    offset_s, answers = context.Value("d", 0.0), context.Queue()

    def be() -> None:
        step_by(offset_s)
        offset_s.value = 3600.0
        begun = time.monotonic()
        answers.put((time.time(), time.time_ns() / 1e9, time.monotonic() - begun))

    process = context.Process(target=be)
    process.start()
    wrong, wrong_ns, passed = answers.get(timeout=20)
    process.join()
    assert 3500 < wrong - time.time() <= 3600
    assert 3500 < wrong_ns - time.time() <= 3600
    assert passed < 60
