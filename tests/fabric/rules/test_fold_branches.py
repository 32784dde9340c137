"""Which messages belong together, which are alternatives, which are shown, and which a failed attempt has left."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from session_fabric.rules.branches import Siblings
from session_fabric.rules.fold import Fold
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset

from tests.fabric.rules.test_fold import TEXT, Writing, fold_of, logs


class Chat(Writing):
    """A log of people who speak, edit and select, and of agents who answer."""

    def say(self, id: str, **body: Any) -> Event:
        return self.add("message.user", actor="user:ada", run=None, message={"id": id, "content": id}, **body)

    def answer(self, run: str, *ids: str, to: str | None = None) -> None:
        self.add("RUN_STARTED", run=run, runId=run, **({} if to is None else {"message": to}))
        for id in ids:
            self.add("message.completed", run=run, message={"id": id, "role": "assistant", "content": id})

    def select(self, id: object) -> None:
        self.add("branch.selected", actor="user:bob", run=None, message=id)

    def fold(self) -> Fold:
        return fold_of(self.events)

    @property
    def path(self) -> str:
        return " ".join(message.id for message in self.fold().path())

    @property
    def parents(self) -> dict[str, str | None]:
        return {message.id: message.parent for message in self.fold().messages()}


@given(logs())
def test_a_message_is_shown_with_all_that_it_follows_and_of_alternatives_one(log: list[Event]) -> None:
    fold = fold_of(log)
    messages, path = fold.messages(), [message.id for message in fold.path()]
    assert [m.id for m in messages if m.id in path] == path, "in the order of the log"
    for message in messages:
        siblings = fold.siblings(message.id)
        assert siblings.ids[siblings.index] == message.id
        followed_is_shown = message.parent is None or message.parent in path
        if message.id in path:
            assert followed_is_shown
        elif followed_is_shown:
            assert len(siblings.ids) > 1, "nothing is hidden but by an alternative"
        if followed_is_shown:
            assert len([id for id in siblings.ids if id in path]) == 1


@given(logs())
def test_a_message_follows_one_that_stands_before_it(log: list[Event]) -> None:
    places = {message.id: n for n, message in enumerate(fold_of(log).messages())}
    for message in fold_of(log).messages():
        assert message.parent is None or places[message.parent] < places[message.id]


@given(logs())
def test_whoever_selects_a_message_sees_it(log: list[Event]) -> None:
    for message in fold_of(log).messages():
        newest = Offset(10, len(log) + 1)
        raw = b'{"type":"branch.selected","message":"%s"}' % message.id.encode()
        fold = fold_of([*log, Event(newest, "e", "branch.selected", "user:bob", None, 0, raw)])
        assert message.id in [shown.id for shown in fold.path()]


# --- what follows what ------------------------------------------------------------------------------


def test_an_answer_follows_what_it_answers_and_the_rest_of_it_its_first_message() -> None:
    chat = Chat()
    chat.say("u1")
    chat.say("u2")
    chat.answer("r1", "a1", "b1", to="u1")
    chat.say("u3")
    chat.answer("r2", "a2", to="u2")

    assert chat.parents == {"u1": None, "u2": "u1", "a1": "u1", "b1": "a1", "u3": "b1", "a2": "u2"}


def test_two_people_who_speak_at_once_hide_nothing() -> None:
    chat = Chat()
    chat.say("u1")
    chat.say("u2")
    chat.answer("r1", "a1", to="u1")
    chat.say("u3")
    chat.answer("r2", "a2", to="u2")

    assert chat.path == "u1 u2 a1 u3 a2"
    assert all(len(chat.fold().siblings(id).ids) == 1 for id in chat.parents)


def test_what_names_no_parent_follows_what_was_shown_then() -> None:
    chat = Chat()
    chat.say("u1")
    chat.answer("r1", "a1", to="u1")
    chat.answer("r2", "a2", to="u1")
    chat.select("a1")
    chat.say("u2")
    chat.select("a2")
    chat.say("u3")
    chat.answer("r3", "a3")

    assert chat.parents == {"u1": None, "a1": "u1", "a2": "u1", "u2": "a1", "u3": "a2", "a3": "u3"}
    assert chat.path == "u1 a2 u3 a3"


@pytest.mark.parametrize("parent", ["nobody", "u1", "u3", 7, ["u0"], {}])
def test_a_parent_that_is_none_is_as_if_none_were_named(parent: object) -> None:
    chat = Chat()
    chat.say("u0")
    chat.say("u1", parent=parent)
    chat.say("u3", parent="u1")

    assert chat.parents == {"u0": None, "u1": "u0", "u3": "u1"}


def test_parents_that_go_in_a_circle_are_cut_where_the_log_begins() -> None:
    chat = Chat()
    chat.say("u1", parent="u3")
    chat.say("u2", parent="u1")
    chat.say("u3", parent="u2")

    assert chat.parents == {"u1": None, "u2": "u1", "u3": "u2"}


def test_a_run_that_answers_nothing_that_is_there_follows_what_was_shown() -> None:
    chat = Chat()
    chat.say("u1")
    chat.answer("r1", "a1", to="u9")

    assert chat.parents == {"u1": None, "a1": "u1"}


# --- alternatives -----------------------------------------------------------------------------------


def test_what_is_newest_is_shown_be_it_a_selection_or_another_answer() -> None:
    chat = Chat()
    chat.say("u1")
    chat.answer("r1", "a1", to="u1")
    chat.answer("r2", "a2", to="u1")
    assert chat.path == "u1 a2"
    chat.select("a1")
    assert chat.path == "u1 a1"
    chat.answer("r3", "a3", to="u1")
    assert chat.path == "u1 a3"
    assert chat.fold().siblings("a2") == Siblings(("a1", "a2", "a3"), 1)


def test_a_selection_selects_what_leads_to_it_and_keeps_what_is_selected_below() -> None:
    chat = Chat()
    chat.say("u1")
    chat.answer("r1", "a1", to="u1")
    chat.say("u2")
    chat.say("u3", parent="a1")
    chat.say("u4", parent=None)
    assert chat.path == "u4"
    chat.select("u2")
    assert chat.path == "u1 a1 u2"
    chat.select("u4")
    chat.select("u1")
    assert chat.path == "u1 a1 u2"


@pytest.mark.parametrize("id", ["nobody", "later", "gone", 7, None])
def test_a_selection_of_what_is_not_there_changes_nothing(id: object) -> None:
    chat = Chat()
    chat.say("u1")
    chat.say("u2", parent=None)
    chat.add("message.completed", run="r1", message={"id": "gone", "content": ""})
    chat.add("STEP_STARTED", run="r1", stepName="s", attempt=2, supersedes=["gone"])
    chat.select(id)
    chat.say("later", parent="u1")

    assert chat.path == "u2"


def test_siblings_of_a_message_that_is_not_there_are_none() -> None:
    assert Chat().fold().siblings("nobody") == Siblings((), -1)


def test_a_thousand_edits_and_selections_are_folded_in_a_moment() -> None:
    chat = Chat()
    for n in range(1000):
        chat.say(f"u{n}", **({"parent": f"u{n - 2}"} if n % 2 else {}))
        chat.select(f"u{n // 2}")
    begun = time.process_time()
    chat.fold().path()

    assert time.process_time() - begun < 5


# --- steps that are made again ----------------------------------------------------------------------


def steps(supersedes: Any, run: str | None = "r1") -> Chat:
    chat = Chat()
    chat.say("u1")
    chat.add("RUN_STARTED", runId="r1", message="u1")
    chat.add(TEXT, messageId="m1", at=0, delta="a failed ")
    chat.add("STEP_STARTED", run=run, stepName="s", attempt=2, supersedes=supersedes)
    return chat


def test_what_a_run_supersedes_is_hidden_and_can_be_reached() -> None:
    chat = steps(["m1"])
    chat.answer("r1", "m2")
    fold = chat.fold()

    assert [(m.id, m.parent) for m in fold.messages()] == [("u1", None), ("m2", "u1")]
    assert [(m.id, m.content, m.parent) for m in fold.superseded] == [("m1", "a failed ", None)]
    assert fold.message("m1") == fold.superseded[0]


@pytest.mark.parametrize(
    ("supersedes", "run"), [(["m1"], "r2"), (["m1"], None), (["u1"], "r1"), ("m1", "r1"), ([7, None, ["m1"]], "r1")]
)
def test_nobody_hides_what_is_not_his(supersedes: Any, run: str | None) -> None:
    assert [m.id for m in steps(supersedes, run).fold().messages()] == ["u1", "m1"]


def test_a_message_that_goes_on_after_it_was_superseded_is_shown_again() -> None:
    chat = steps(["m1"])
    chat.answer("r1", "m1")

    assert [(m.id, m.content) for m in chat.fold().messages()] == [("u1", "u1"), ("m1", "m1")]


# --- what became of messages, and who speaks --------------------------------------------------------


def test_what_became_of_a_message_is_what_the_newest_event_says() -> None:
    chat = Chat()
    at = chat.say("u1").offset
    chat.add("message.expired", actor="service:fabric", run=None, message="u1", input=str(at))
    chat.add("message.rejected", run=None, message="u1", input=str(Offset(10, 7)))
    fold = fold_of(reversed(chat.events))

    assert [m.delivery for m in fold.messages()] == ["rejected"]


def test_what_became_of_the_wish_for_another_answer_is_not_said_of_the_message() -> None:
    chat = Chat()
    chat.say("u1")
    again = chat.add("message.regenerate", actor="user:ada", run=None, message="u1")
    chat.add("message.rejected", run=None, message="u1", input=str(again.offset), reason="busy")
    chat.add("message.rejected", run=None, message=7, input=str(again.offset))

    assert [m.delivery for m in chat.fold().messages()] == [None]


def test_an_operator_speaks_in_his_own_name_and_never_in_anothers_message() -> None:
    chat = Chat()
    chat.say("u1")
    chat.answer("r1", "a1", to="u1")
    for id in ("o1", "a1", "u1"):
        eves = {"id": id, "role": "assistant", "content": "Eve's"}
        chat.add("message.completed", actor="operator:eve", run=None, message=eves)
    chat.add("message.completed", run="r1", message={"id": "o1", "role": "assistant", "content": "the agent's"})

    assert [(m.actor, m.run, m.content) for m in chat.fold().messages()] == [
        ("user:ada", None, "u1"),
        ("agent:writer", "r1", "a1"),
        ("operator:eve", None, "Eve's"),
    ]


# --- runs -------------------------------------------------------------------------------------------


def test_a_run_says_what_it_answers_what_it_waits_for_and_how_it_failed() -> None:
    log = Writing()
    log.add("RUN_STARTED", runId="r1", pool="legal", input=str(Offset(10, 1)), message="u1", agent="agent:a")
    log.add("run.suspended", request="q1", agent="agent:a", generation=1)
    run = fold_of(log.events).runs["r1"]
    assert (run.pool, run.input, run.message, run.request) == ("legal", Offset(10, 1), "u1", "q1")

    log.add("run.taken_over", actor="agent:b", agent="agent:b", generation=2)
    log.add("RUN_ERROR", actor="service:fabric", message="Lost.", code="agent_lost")
    for events in (log.events, [*reversed(log.events)]):
        run = fold_of(events).runs["r1"]
        assert (run.state, run.agent, run.generation, run.request) == ("failed", "agent:b", 2, None)
        assert (run.pool, run.message, run.error, run.code) == ("legal", "u1", "Lost.", "agent_lost")


def test_what_a_run_says_wrongly_is_passed_over() -> None:
    log = Writing()
    log.add("RUN_STARTED", runId="r1", pool=7, input="soon", message=None, generation=True, agent=[])
    run = fold_of(log.events).runs["r1"]

    assert (run.pool, run.input, run.message, run.generation, run.agent) == (None, None, None, 1, "agent:writer")


def test_runs_stand_in_the_order_of_their_beginning() -> None:
    log = Writing()
    for run in ("r2", "r1"):
        log.add("RUN_STARTED", run=run)

    assert list(fold_of(reversed(log.events)).runs) == ["r2", "r1"]
