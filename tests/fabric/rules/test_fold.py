"""Messages come out of the log the same however it was delivered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.fold import Fold
from session_fabric.rules.messages import Message
from session_fabric.words.events import DELTA_KEYS, Event, utf16_length
from session_fabric.words.positions import Offset

TEXT = "TEXT_MESSAGE_CONTENT"
THOUGHT = "REASONING_MESSAGE_CONTENT"


class Writing:
    """A log in the making."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(
        self,
        type: str,
        *,
        actor: str = "agent:writer",
        run: str | None = "r1",
        at: int | None = None,
        **body: Any,
    ) -> Event:
        offset = Offset(10, len(self.events) + 1)
        raw = orjson.dumps({"type": type, **body})
        event = Event(offset, f"e{offset.sequence}", type, actor, run, 0, raw, at)
        self.events.append(event)
        return event

    def user(self, id: str, content: Any, actor: str = "user:ada") -> Event:
        message = {"id": id, "role": "user", "content": content}
        return self.add("message.user", actor=actor, run=None, message=message)


def fold_of(events: Iterable[Event]) -> Fold:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold


def result(events: Iterable[Event]) -> object:
    fold = fold_of(events)
    messages, path = fold.messages(), fold.path()
    return messages, path, [fold.siblings(m.id) for m in messages], fold.superseded, dict(fold.runs)


def only(events: Iterable[Event]) -> Message:
    (message,) = fold_of(events).messages()
    return message


# --- the whole ------------------------------------------------------------------------------------

pieces = st.lists(st.text(alphabet=st.sampled_from("ab é日👋"), min_size=1, max_size=5), max_size=6)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Several runs and users writing at once, each run as the SDK writes it, ended or not."""
    log = Writing()
    scripts = []
    for number in range(draw(st.integers(1, 3))):
        scripts.append(run_script(draw, log, f"r{number}"))
    for number in range(draw(st.integers(0, 4))):
        scripts.append(user_script(draw, log, number))
    while scripts:
        script = draw(st.sampled_from(scripts))
        script.pop(0)()
        if not script:
            scripts.remove(script)
    return log.events


# Ids that the log has, and one that it has not.
IDS = [f"u{n}" for n in range(4)] + [f"r{n}-m{m}" for n in range(3) for m in range(2)] + ["nobody"]
ids = st.sampled_from(IDS)


def user_script(draw: st.DrawFn, log: Writing, number: int) -> list[Any]:
    """A user says something, perhaps in another's place, hears what became of it, and chooses what to see."""
    said: dict[str, Offset] = {}
    parent = draw(st.one_of(st.none(), st.just({"parent": None}), ids.map(lambda id: {"parent": id})))
    message = {"id": f"u{number}", "role": "user", "content": f"question {number}"}
    body = {"actor": "user:ada", "run": None, "message": message, **(parent or {})}
    steps = [lambda: said.update(at=log.add("message.user", **body).offset)]
    if draw(st.booleans()):
        word = draw(st.sampled_from(["message.steered", "message.rejected", "message.expired"]))
        steps.append(lambda: log.add(word, run=None, input=str(said["at"]), message=f"u{number}"))
    for type in draw(st.lists(st.sampled_from(["branch.selected", "message.regenerate"]), max_size=2)):
        chosen = draw(ids)
        steps.append(lambda type=type, id=chosen: log.add(type, actor="user:bob", run=None, message=id))
    return steps


def run_script(draw: st.DrawFn, log: Writing, run: str) -> list[Any]:
    began: dict[str, Offset] = {}
    answers = draw(st.one_of(st.just({}), ids.map(lambda id: {"message": id})))
    steps: list[Any] = [
        lambda: log.add("run.claimed", run=run, agent="agent:writer", generation=1),
        lambda: log.add("RUN_STARTED", run=run, runId=run, threadId="s", **answers),
    ]
    for number in range(draw(st.integers(0, 2))):
        id, call = f"{run}-m{number}", f"{run}-t{number}"
        text, thought, args = (draw(pieces) for _ in range(3))
        start = {"run": run, "messageId": id, "role": "assistant"}
        steps.append(lambda id=id, it=start: began.update({id: log.add("TEXT_MESSAGE_START", **it).offset}))
        steps += deltas(log, run, THOUGHT, "messageId", id, thought)
        if args:
            steps.append(
                lambda id=id, call=call: log.add(
                    "TOOL_CALL_START", run=run, toolCallId=call, toolCallName="search", parentMessageId=id
                )
            )
            steps += deltas(log, run, "TOOL_CALL_ARGS", "toolCallId", call, args)
            steps.append(lambda call=call: log.add("TOOL_CALL_RESULT", run=run, toolCallId=call, content="found"))
        steps += deltas(log, run, TEXT, "messageId", id, text)
        so_far = {"id": id, "role": "assistant", "content": "".join(text), "reasoning": "".join(thought)}
        if draw(st.booleans()):
            steps.append(lambda m=so_far: log.add("message.snapshot", run=run, message=m))
        if draw(st.booleans()):
            calls = [{"id": call, "function": {"name": "search", "arguments": "".join(args)}}] if args else []
            whole = {"run": run, "message": so_far | {"toolCalls": calls}}
            steps.append(lambda id=id, it=whole: log.add("message.completed", began=str(began[id]), **it))
        if draw(st.booleans()):
            gone = draw(st.lists(ids, max_size=3))
            steps.append(lambda gone=gone: log.add("STEP_STARTED", run=run, stepName="s", attempt=2, supersedes=gone))
        if draw(st.booleans()):
            steps.append(lambda: log.add("run.suspended", run=run, request="q1", generation=1))
            if draw(st.booleans()):
                other = {"agent": "agent:other", "generation": 2}
                steps.append(lambda other=other: log.add("run.taken_over", run=run, actor="agent:other", **other))
    end = draw(st.sampled_from(["RUN_FINISHED", "RUN_ERROR", "run.orphaned", None]))
    if end is not None:
        steps.append(lambda: log.add(end, run=run, runId=run, outcome={"type": draw(OUTCOMES)}))
    return steps


OUTCOMES = st.sampled_from(["success", "cancelled", "interrupt"])


def deltas(log: Writing, run: str, type: str, key: str, id: str, text: list[str]) -> list[Any]:
    ats = [utf16_length("".join(text[:n])) for n in range(len(text))]
    return [
        lambda at=at, piece=piece: log.add(type, run=run, at=at, delta=piece, **{key: id})
        for at, piece in zip(ats, text, strict=True)
    ]


@given(logs())
def test_folding_everything_twice_changes_nothing(log: list[Event]) -> None:
    assert result(log + log) == result(log)
    assert result([event for event in log for _ in range(2)]) == result(log)


@given(logs(), st.integers(0, 60), st.integers(0, 60))
def test_a_resume_with_overlap_changes_nothing(log: list[Event], had: int, again: int) -> None:
    assert result(log[:had] + log[min(had, again) :]) == result(log)


@given(logs(), st.data())
def test_a_rewind_brings_what_was_missing_into_its_place(log: list[Event], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(log)))
    had = [event for event in log[start:] if data.draw(st.booleans())]

    assert result(log[:start] + had + log[start:]) == result(log)


@given(logs(), st.data())
def test_deltas_that_are_gone_after_the_completion_are_not_missed(log: list[Event], data: st.DataObject) -> None:
    fold = fold_of(log)
    complete = {m.id for m in fold.messages() if m.status == "completed" and covered(log, m.id)}
    complete |= {c.id for m in fold.messages() if m.id in complete for c in m.tool_calls}

    def gone(event: Event) -> bool:
        key = "messageId" if event.type == "TEXT_MESSAGE_START" else DELTA_KEYS.get(event.type)
        if key is None or event.body[key] not in complete:
            return False
        return data.draw(st.booleans())

    assert result(event for event in log if not gone(event)) == result(log)


def covered(log: list[Event], id: str) -> bool:
    return any(e.type == "message.completed" and e.body["message"]["id"] == id for e in log)


@given(logs())
def test_a_snapshot_stands_for_the_deltas_before_it(log: list[Event]) -> None:
    snapshots = {e.body["message"]["id"]: e.offset for e in log if e.type == "message.snapshot"}
    left = [
        e for e in log if e.type not in (TEXT, THOUGHT) or e.offset > snapshots.get(e.body["messageId"], Offset(0, 0))
    ]

    assert result(left) == result(log)


# --- runs and the status of what they leave open ---------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "body", "state", "status"),
    [
        (None, {}, "running", "open"),
        ("RUN_FINISHED", {}, "completed", "completed"),
        ("RUN_FINISHED", {"outcome": {"type": "success"}}, "completed", "completed"),
        ("RUN_FINISHED", {"outcome": "interrupt"}, "cancelled", "interrupted"),
        ("RUN_FINISHED", {"outcome": {"type": "cancelled"}}, "cancelled", "interrupted"),
        ("RUN_ERROR", {"message": "gone"}, "failed", "failed"),
        ("run.orphaned", {"agent": "agent:writer"}, "orphaned", "interrupted"),
        ("run.taken_over", {"agent": "agent:second"}, "running", "open"),
        ("run.suspended", {"request": "q1"}, "suspended", "open"),
        ("run.resumed", {"request": "q1"}, "running", "open"),
    ],
)
def test_the_status_of_an_unfinished_message_is_its_runs(
    ending: str | None, body: dict[str, Any], state: str, status: str
) -> None:
    log = Writing()
    log.add("RUN_STARTED", runId="r1")
    log.add(TEXT, messageId="m1", at=0, delta="Well")
    if ending is not None:
        log.add(ending, **body)

    fold = fold_of(log.events)

    assert fold.runs["r1"].state == state
    assert fold.runs["r1"].agent == body.get("agent", "agent:writer")
    assert [m.status for m in fold.messages()] == [status]


def test_a_run_is_known_by_its_body_where_the_event_names_none() -> None:
    log = Writing()
    log.add("RUN_STARTED", run=None, runId="r7")
    log.add("RUN_STARTED", run=None)

    assert list(fold_of(log.events).runs) == ["r7"]


# --- messages --------------------------------------------------------------------------------------


def test_text_so_far_is_there_at_any_time() -> None:
    log = Writing()
    log.add("TEXT_MESSAGE_START", messageId="m1")
    log.add(TEXT, messageId="m1", at=0, delta="Hel")
    fold = fold_of(log.events)
    assert (fold.text("m1"), fold.text("m2"), fold.message("m2")) == ("Hel", "", None)

    fold.add(log.add(TEXT, messageId="m1", at=3, delta="lo"))
    message = fold.message("m1")
    assert message is not None
    assert (message.content, message.role, message.status) == ("Hello", "assistant", "open")
    assert (message.first, message.last) == (Offset(10, 1), Offset(10, 3))


def test_a_completion_remembers_where_its_message_began() -> None:
    log = Writing()
    log.add("TEXT_MESSAGE_START", messageId="m1", role="assistant")
    log.user("u1", "Wait")
    log.add("message.completed", message={"id": "m1", "role": "assistant", "content": "Well"}, began=str(Offset(10, 1)))

    for events in (log.events, log.events[1:], [*log.events[1:], *log.events]):
        assert [(m.id, m.first) for m in fold_of(events).messages()] == [
            ("m1", Offset(10, 1)),
            ("u1", Offset(10, 2)),
        ]


@pytest.mark.parametrize("began", [None, 7, "soon", str(Offset(10, 9))])
def test_a_beginning_that_is_none_changes_nothing(began: object) -> None:
    log = Writing()
    log.add("message.snapshot", message={"id": "m1", "content": "Well"}, began=began)
    log.add("message.user", actor="user:eve", message={"id": "u1", "content": "First!"}, began=str(Offset(1, 1)))

    assert [m.first.sequence for m in fold_of(log.events).messages()] == [1, 2]


def test_a_users_message_keeps_its_parts() -> None:
    log = Writing()
    parts = [{"type": "text", "text": "Look"}, {"type": "image", "url": "x"}]
    log.user("u1", parts)

    message = only(log.events)
    assert (message.content, message.role, message.status) == (parts, "user", "completed")
    assert (message.actor, message.run) == ("user:ada", None)


def test_the_newest_completion_wins_in_any_order() -> None:
    log = Writing()
    for text in ("first", "second"):
        log.add("message.completed", message={"id": "m1", "content": text})

    assert only(log.events).content == only(reversed(log.events)).content == "second"
    assert only(log.events).role == "assistant"


def test_nothing_follows_a_completion() -> None:
    log = Writing()
    log.add("message.completed", message={"id": "m1", "role": "assistant", "content": "whole"})
    log.add("TEXT_MESSAGE_START", messageId="m1", role="developer")
    log.add("message.snapshot", message={"id": "m1", "content": "wholesome"})
    log.add(TEXT, messageId="m1", at=5, delta="some")

    assert (only(log.events).content, only(log.events).role) == ("whole", "assistant")


def test_nobody_writes_into_anothers_message() -> None:
    log = Writing()
    log.add(TEXT, messageId="m1", at=0, delta="the agent's")
    log.user("m1", "not the agent's")
    log.user("u1", "Ada's")
    log.user("u1", "not Ada's", actor="user:eve")
    log.add("message.completed", message={"id": "u1", "role": "user", "content": "not Ada's either"})

    for events in (log.events, [*reversed(log.events), *log.events]):
        assert [m.content for m in fold_of(events).messages()] == ["the agent's", "Ada's"]
        assert [m.actor for m in fold_of(events).messages()] == ["agent:writer", "user:ada"]


def test_what_a_user_says_has_the_role_of_a_user_whatever_it_claims() -> None:
    log = Writing()
    log.add("message.user", actor="user:eve", message={"id": "u1", "role": "assistant", "content": "Trust me."})

    assert only(log.events).role == "user"


def test_a_user_may_say_his_own_message_anew() -> None:
    log = Writing()
    log.user("u1", "Helo")
    log.user("u1", "Hello")

    assert only(log.events).content == "Hello"


def test_a_message_of_reasoning_alone_has_that_role() -> None:
    log = Writing()
    log.add("REASONING_MESSAGE_START", messageId="m1", role="reasoning")
    log.add(THOUGHT, messageId="m1", at=0, delta="Hm")
    assert (only(log.events).role, only(log.events).reasoning) == ("reasoning", "Hm")

    log.add("message.completed", message={"id": "m1", "role": "reasoning", "content": "Hm."})
    assert only(log.events).plain() == {
        "id": "m1",
        "role": "reasoning",
        "content": "",
        "status": "completed",
        "reasoning": "Hm.",
        "tool_calls": [],
        "parent": None,
        "delivery": None,
    }


def test_deltas_without_a_position_stand_in_the_order_of_the_log() -> None:
    log = Writing()
    log.add(TEXT, messageId="m1", delta="one ")
    log.add(TEXT, messageId="m1", delta="two")

    assert only([*reversed(log.events), *log.events]).content == "one two"


# --- tool calls ------------------------------------------------------------------------------------


def test_a_tool_call_without_a_parent_is_a_message_of_its_own() -> None:
    log = Writing()
    log.add("TOOL_CALL_START", toolCallId="t1", toolCallName="search")
    log.add("TOOL_CALL_ARGS", toolCallId="t1", at=0, delta="{}")

    message = only(log.events)
    assert (message.id, message.role, message.tool_calls[0].args) == ("t1", "assistant", "{}")


def test_the_end_of_a_tool_call_may_bring_its_arguments() -> None:
    log = Writing()
    log.add("TOOL_CALL_START", toolCallId="t1", toolCallName="search")
    log.add("TOOL_CALL_END", toolCallId="t1")
    assert only(log.events).tool_calls[0].args == ""

    log.add("TOOL_CALL_END", toolCallId="t1", args='{"q":1}')
    assert only(log.events).tool_calls[0].args == '{"q":1}'


def test_a_tool_call_that_begins_after_the_completion_still_belongs_to_the_message() -> None:
    log = Writing()
    log.add("TOOL_CALL_START", toolCallId="t0", toolCallName="unlisted", parentMessageId="m1")
    log.add("message.completed", message={"id": "m1", "content": "", "toolCalls": [call("t1")]})
    log.add("TOOL_CALL_START", toolCallId="t2", toolCallName="later", parentMessageId="m1")
    log.add("TOOL_CALL_RESULT", toolCallId="t1", content="found")

    assert [(c.id, c.name, c.result) for c in only(log.events).tool_calls] == [
        ("t1", "search", "found"),
        ("t2", "later", None),
    ]


def test_a_completion_that_lists_no_tool_calls_leaves_those_that_began() -> None:
    log = Writing()
    log.add("TOOL_CALL_START", toolCallId="t1", toolCallName="search", parentMessageId="m1")
    log.add("message.completed", message={"id": "m1", "content": "whole"})

    assert [c.id for c in only(log.events).tool_calls] == ["t1"]


def test_a_snapshot_brings_arguments_so_far() -> None:
    log = Writing()
    log.add("TOOL_CALL_START", toolCallId="t1", toolCallName="search", parentMessageId="m1")
    log.add("message.snapshot", message={"id": "m1", "content": "", "toolCalls": [call("t1", '{"q"')]})
    log.add("TOOL_CALL_ARGS", toolCallId="t1", at=3, delta='":1}')

    assert only(log.events).tool_calls[0].args == '{"q":1}'


def test_the_newest_result_wins_in_any_order() -> None:
    log = Writing()
    log.add("TOOL_CALL_START", toolCallId="t1", toolCallName="search")
    for content in ("old", "new"):
        log.add("TOOL_CALL_RESULT", toolCallId="t1", content=content)

    assert only(log.events) == only([*log.events, *log.events])
    assert only([log.events[0], log.events[2], log.events[1]]).tool_calls[0].result == "new"


def call(id: str, args: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "search", "arguments": args}}


# --- what makes no sense ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("fabric.malformed", {"reason": "not JSON"}),
        ("app.rated", {"messageId": "m1"}),
        (TEXT, {"delta": "x"}),
        (THOUGHT, {"messageId": 7, "delta": "x"}),
        ("TEXT_MESSAGE_START", {}),
        ("TEXT_MESSAGE_END", {}),
        ("REASONING_MESSAGE_START", {}),
        ("TOOL_CALL_START", {"parentMessageId": "m1"}),
        ("TOOL_CALL_START", {"toolCallId": "t1", "parentMessageId": 5}),
        ("TOOL_CALL_ARGS", {"delta": "x"}),
        ("TOOL_CALL_ARGS", {"toolCallId": "t1", "delta": "x"}),
        ("TOOL_CALL_END", {"args": "x"}),
        ("TOOL_CALL_RESULT", {"content": "x"}),
        ("message.completed", {}),
        ("message.completed", {"message": "text"}),
        ("message.snapshot", {"message": {"content": "text"}}),
        ("message.user", {"message": {"id": 3}}),
    ],
)
def test_an_event_that_names_no_message_changes_nothing(type: str, body: dict[str, Any]) -> None:
    log = Writing()
    log.add(type, at=0 if type in DELTA_KEYS else None, **body)

    assert fold_of(log.events).messages() == []


def test_values_of_a_wrong_type_count_as_empty() -> None:
    log = Writing()
    log.add(TEXT, messageId="m1", at=0, delta=5)
    log.add("message.completed", message={"id": "m2", "content": None, "toolCalls": [{"id": 1}, 2, call("t")]})
    log.add("message.completed", message={"id": "m3", "content": 5, "toolCalls": [{"id": "x"}]})

    plain = [m.plain() for m in fold_of(log.events).messages()]
    assert [(m["id"], m["content"]) for m in plain] == [("m1", ""), ("m2", ""), ("m3", "")]
    assert [c["id"] for m in plain for c in m["tool_calls"]] == ["t", "x"]
