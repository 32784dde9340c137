"""What a run is to a client of AG-UI's: in an order that it accepts, nothing twice, and the rest to who comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.errors import InvalidOffset
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record
from session_fabric_gateway.dialects.ag_ui.places import Place, read_place
from session_fabric_gateway.dialects.ag_ui.saying import started
from session_fabric_gateway.dialects.ag_ui.speaking import Speaker, Turn
from session_fabric_gateway.dialects.telling import Part

from tests.gateway.records import SEGMENT, delta, record

BEFORE = Offset(SEGMENT, 0)
_OPENS = {
    "TEXT_MESSAGE_START": ("text", "messageId"),
    "REASONING_MESSAGE_START": ("thoughts", "messageId"),
    "REASONING_START": ("span", "messageId"),
    "TOOL_CALL_START": ("call", "toolCallId"),
    "STEP_STARTED": ("step", "stepName"),
}
_CLOSES = {
    "TEXT_MESSAGE_END": ("text", "messageId"),
    "REASONING_MESSAGE_END": ("thoughts", "messageId"),
    "REASONING_END": ("span", "messageId"),
    "TOOL_CALL_END": ("call", "toolCallId"),
    "STEP_FINISHED": ("step", "stepName"),
}
_GOES_ON = {
    "TEXT_MESSAGE_CONTENT": ("text", "messageId"),
    "REASONING_MESSAGE_CONTENT": ("thoughts", "messageId"),
    "TOOL_CALL_ARGS": ("call", "toolCallId"),
}


class Reader:
    """Takes what a client of AG-UI's takes, and fails where one does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.texts: dict[str, str] = {}
        self._open: set[tuple[str, str]] = set()

    def frame(self, event: bytes, id: str) -> bytes:
        return orjson.dumps([id, orjson.Fragment(event)]) + b"\n"

    def take(self, data: bytes) -> None:
        for line in data.splitlines():
            id, event = orjson.loads(line)
            assert id not in self.ids or id == ""
            self.ids.append(id)
            self.add(event)

    def add(self, event: dict[str, Any]) -> None:
        type = event["type"]
        assert self.events or type in ("RUN_STARTED", "RUN_ERROR")
        if type in _OPENS:
            kind, name = _OPENS[type]
            assert (kind, event[name]) not in self._open
            self._open.add((kind, event[name]))
        elif type in _CLOSES:
            kind, name = _CLOSES[type]
            self._open.remove((kind, event[name]))
        elif type in _GOES_ON:
            kind, name = _GOES_ON[type]
            assert (kind, event[name]) in self._open
            self.texts[event[name]] = self.texts.get(event[name], "") + event["delta"]
        elif type == "RUN_FINISHED":
            assert not self._open
        self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


def speaker(reader: Reader, **more: Any) -> Speaker:
    ways = {"eager": more.pop("eager", False), "hidden": more.pop("hidden", frozenset())}
    turn = Turn("r1", BEFORE, "chat", "mine", **({"prefix": [started("chat", "mine")]} | more))
    return Speaker(turn, "user:ada", reader.frame, **ways)


def completed(sequence: int, text: str, *, message: str = "m1", **more: Any) -> Record:
    said = {"id": message, "role": "assistant", "content": text, **more}
    return record(
        sequence,
        "message.completed",
        body={"type": "message.completed", "message": said},
        **{"Sf-Run": "r1"},
    )


def opened(sequence: int, message: str = "m1") -> Record:
    body = {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
    return record(sequence, "TEXT_MESSAGE_START", kind="tok", name="r1", body=body)


def own(sequence: int, type: str, **body: Any) -> Record:
    return record(sequence, type, kind="own", name="r1", body={"type": type, **body}, **{"Sf-Run": "r1"})


def said(sequence: int, type: str, **body: Any) -> Record:
    return record(sequence, type, body={"type": type, **body}, **{"Sf-Run": "r1"})


def begun(sequence: int = 1) -> Record:
    return own(sequence, "RUN_STARTED", runId="r1", threadId="s1", agent="agent:writer")


def ended(sequence: int, type: str = "success") -> Record:
    return own(sequence, "RUN_FINISHED", runId="r1", outcome={"type": type})


def test_an_answer_in_pieces_begins_grows_and_ends_under_the_readers_own_names() -> None:
    reader = Reader()
    one = speaker(reader)
    for item in [begun(), delta(2, "Hel", 0), delta(3, "lo", 3), completed(4, "Hello"), ended(5)]:
        reader.take(one.tell([item]))
    assert reader.types == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert reader.texts == {"m1": "Hello"}
    assert one.over
    assert (reader.events[-1]["threadId"], reader.events[-1]["runId"]) == ("chat", "mine")


def test_what_was_kept_of_an_answer_reads_like_its_pieces() -> None:
    reader = Reader()
    reader.take(speaker(reader).tell([begun(), completed(4, "Hello"), ended(5)]))
    assert reader.texts == {"m1": "Hello"}


def test_what_is_thought_is_a_message_of_its_own_before_the_text() -> None:
    reader = Reader()
    thought = delta(3, "Hm. ", 0, type="REASONING_MESSAGE_CONTENT")
    reader.take(
        speaker(reader).tell([begun(), opened(2), thought, delta(4, "Yes", 0), completed(5, "Yes", reasoning="Hm. ")])
    )
    assert reader.texts == {"m1.reasoning": "Hm. ", "m1": "Yes"}
    assert reader.types.index("REASONING_END") < reader.types.index("TEXT_MESSAGE_START")


def test_for_tanstack_a_message_begins_with_what_is_thought() -> None:
    reader = Reader()
    thought = delta(3, "Hm. ", 0, type="REASONING_MESSAGE_CONTENT")
    reader.take(speaker(reader, eager=True).tell([begun(), opened(2), thought, delta(4, "Yes", 0), ended(5)]))
    assert reader.types[:3] == ["RUN_STARTED", "TEXT_MESSAGE_START", "REASONING_START"]
    assert reader.types.count("TEXT_MESSAGE_START") == 1


TOOL = [
    said(2, "TOOL_CALL_START", toolCallId="c1", toolCallName="search", parentMessageId="m1"),
    said(3, "TOOL_CALL_ARGS", toolCallId="c1", delta='{"q":1}'),
    said(4, "TOOL_CALL_END", toolCallId="c1"),
    said(5, "TOOL_CALL_RESULT", toolCallId="c1", messageId="c1-result", role="tool", content="42"),
]


def test_a_tool_call_has_its_arguments_and_its_result() -> None:
    reader = Reader()
    reader.take(speaker(reader).tell([begun(), *TOOL, completed(6, ""), ended(7)]))
    assert reader.texts["c1"] == '{"q":1}'
    assert [event["content"] for event in reader.events if event["type"] == "TOOL_CALL_RESULT"] == ["42"]


def test_a_failed_attempt_asks_to_be_told_anew_without_it() -> None:
    reader = Reader()
    again = said(3, "STEP_STARTED", stepName="attempt", attempt=2, supersedes=["m1"])
    one = speaker(reader)
    reader.take(one.tell([begun(), delta(2, "Wro", 0), again, delta(4, "Right", 0, message="m2")]))
    assert one.over
    assert one.again
    assert one.replaced == {"m1"}
    assert reader.types[-1] == "TEXT_MESSAGE_END"
    other = speaker(reader, hidden=one.replaced, prefix=[{"type": "MESSAGES_SNAPSHOT", "messages": []}])
    reader.ids.clear()
    reader.take(other.tell([begun(), delta(2, "Wro", 0), again, delta(4, "Right", 0, message="m2"), ended(5)]))
    assert reader.texts == {"m1": "Wro", "m2": "Right"}
    assert reader.types[-1] == "RUN_FINISHED"


def test_a_run_that_fails_or_never_begins_says_so_with_a_code() -> None:
    for last, code in (
        (own(3, "RUN_ERROR", message="The agent failed.", code="ValueError"), "ValueError"),
        (own(3, "message.rejected", message="u1", reason="busy"), "busy"),
        (own(3, "message.expired", message="u1", reason="no_agent"), "no_agent"),
    ):
        reader = Reader()
        reader.take(speaker(reader).tell([last]))
        assert reader.types == ["RUN_STARTED", "RUN_ERROR"]
        assert reader.events[-1]["code"] == code


# --- a run that asks ----------------------------------------------------------------------------------


def asking(kind: str = "approval", **more: Any) -> list[Record]:
    body = {"request": "q1", "run": "r1", "kind": kind, "title": "Delete?", "to": None, "deadline_ms": None, **more}
    return [begun(), delta(2, "I found 3. ", 0), said(3, "input.requested", **body), own(4, "run.suspended", run="r1")]


def test_the_stream_ends_at_a_question_that_its_reader_may_answer() -> None:
    reader = Reader()
    one = speaker(reader)
    reader.take(one.tell(asking()))
    assert not one.over  # it may have been answered: not all that is stored was read
    reader.take(one.tell([]))
    assert one.over
    assert reader.events[-1]["outcome"]["type"] == "interrupt"
    asked = reader.events[-1]["outcome"]["interrupts"][0]
    assert (asked["id"], asked["message"], asked["responseSchema"]["required"]) == ("q1", "Delete?", ["approved"])
    binding = asked["metadata"]["tanstack:interruptBinding"]
    assert (binding["interruptId"], binding["interruptedRunId"]) == ("q1", "mine")


def test_the_stream_goes_on_while_others_are_asked() -> None:
    reader = Reader()
    one = speaker(reader)
    reader.take(one.tell(asking(to="role:operator")) + one.tell([]))
    assert not one.over


def test_whoever_answers_is_told_what_follows_the_question() -> None:
    reader = Reader()
    one = speaker(reader, since=Offset(SEGMENT, 5))
    answered = [own(5, "input.answered", request="q1", run="r1", by="user:ada"), own(6, "run.resumed", run="r1")]
    rest = [delta(7, "Deleted.", 11), completed(8, "I found 3. Deleted."), ended(9)]
    reader.take(one.tell([*asking(), *answered]) + one.tell([]) + one.tell(rest))
    assert reader.texts == {"m1": "Deleted."}
    assert reader.types[-1] == "RUN_FINISHED"


def test_a_clients_tool_is_pending_to_ag_ui_and_an_event_to_tanstack() -> None:
    tool = {"request": "c1", "run": "r1", "tool": "search", "args": {"q": 1}, "call": "c1", "to": None}
    records = [begun(), *TOOL[:3], said(5, "tool.requested", **tool), own(6, "run.suspended", run="r1")]
    reader = Reader()
    one = speaker(reader)
    reader.take(one.tell(records) + one.tell([]))
    assert reader.events[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["c1"]}
    reader = Reader()
    one = speaker(reader, eager=True)
    reader.take(one.tell(records) + one.tell([]))
    assert reader.events[-2]["value"] == {"toolCallId": "c1", "toolName": "search", "input": {"q": 1}}


# --- places -------------------------------------------------------------------------------------------

_WHOLE = [
    begun(),
    opened(2),
    delta(3, "Hm", 0, type="REASONING_MESSAGE_CONTENT"),
    delta(4, "Hä𝄞", 0),
    *[record(r.sequence + 10, r.type, body=orjson.loads(r.body), **{"Sf-Run": "r1"}) for r in TOOL],
    delta(20, "lo", 4),
    completed(21, "Hä𝄞lo", reasoning="Hm"),
    delta(22, "More", 0, message="m2"),
    completed(23, "More!", message="m2"),
    ended(24),
]
_KEPT = [one for one in _WHOLE if one.parts.kind != "tok"]


def texts_of(events: Sequence[dict[str, Any]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for event in events:
        if event["type"] in _GOES_ON:
            name = event[_GOES_ON[event["type"]][1]]
            texts[name] = texts.get(name, "") + event["delta"]
    return texts


@given(eager=st.booleans(), cut=st.integers(0, 40), kept=st.booleans())
def test_who_comes_back_to_a_place_gets_the_rest_whatever_has_become_of_the_pieces(
    eager: bool, cut: int, kept: bool
) -> None:
    first = Reader()
    one = speaker(first, eager=eager)
    for item in _WHOLE:
        first.take(one.tell([item]))
    whole = texts_of(first.events)
    cut = min(cut, len(first.events) - 1)
    cut += first.ids[cut] == ""  # nobody comes back to half of a pair
    again = Reader()
    again.events = first.events[: cut + 1]
    place = read_place(first.ids[cut])
    other = speaker(again, prefix=(), place=place, eager=eager)
    data = b"".join(other.tell([item]) for item in (_KEPT if kept else _WHOLE))
    rest = [orjson.loads(line)[1] for line in data.splitlines()]
    ids = [orjson.loads(line)[0] for line in data.splitlines()]
    assert not {id for id in ids if id} & set(first.ids[: cut + 1])  # what has an id that a client knows is dropped
    assert texts_of([*first.events[: cut + 1], *rest]) == whole
    strict = Reader()
    for event in [*first.events[: cut + 1], *rest]:
        strict.add(event)
    if cut + 1 < len(first.events):
        assert [event["type"] for event in rest][-1] == "RUN_FINISHED"
    else:
        assert rest == []
    milestones = [e["type"] for e in [*first.events[: cut + 1], *rest] if e["type"] == "TOOL_CALL_RESULT"]
    assert len(milestones) == 1


UNITS: dict[tuple[str, Part], int] = {("m:1", "text"): 12, ("c~1", "args"): 3, ("m.2", "reasoning"): 0}


def test_a_place_reads_as_it_is_spelled() -> None:
    for place in (
        Place(Offset(1, 2), True, {}),
        Place(Offset(1, 2), False, {}, 7),
        Place(Offset(1, 2), False, UNITS, 0, frozenset([("c~1", "args")])),
    ):
        assert read_place(place.spell()) == place


@pytest.mark.parametrize("text", ["", "x", "1_2", f"{Offset(1, 2)},", f"{Offset(1, 2)},t:m", f"{Offset(1, 2)},z1:m"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidOffset):
        read_place(text)
