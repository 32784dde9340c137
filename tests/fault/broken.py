"""Breaks good histories: one way for each that a promise may be broken, with the rule that has to say so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

from tests.fault.breaking import (
    BREAKS,
    a_call,
    a_reading,
    breaks,
    changed,
    got,
    nowhere,
    one,
    stored_behind,
    with_call,
    with_log,
    with_steps,
    without,
)
from tests.fault.history import (
    Fault,
    Got,
    History,
    Marked,
    Members,
    Opened,
    Rewound,
)
from tests.fault.recovery import explains_until

__all__ = ["BREAKS"]


@breaks("lost")
def an_acknowledged_event_is_nowhere(history: History, rng: Random) -> History:
    _, call = a_call(history, rng, "note", "ask")
    event = next(e for e in history.stored[call.session] if e.id == call.id)
    return nowhere(history, call.session, event)


@breaks("lost")
def one_reader_never_gets_an_event(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    gone = reading.steps[got(reading, rng)]
    assert isinstance(gone, Got)
    kept = without(reading, reading.session, gone.event).steps
    return with_steps(history, number, [step for step in kept if not isinstance(step, Marked)])


@breaks("lost")
def a_reader_lacks_an_event_when_it_is_told_that_it_has_all(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    place = got(reading, rng)
    step = reading.steps[place]
    assert isinstance(step, Got)
    before = [s for s in reading.steps[:place] if not (isinstance(s, Got) and s.event == step.event)]
    return with_steps(history, number, [*before, Marked(step.at, step.event.offset), *reading.steps[place:]])


@breaks("lost")
def an_acknowledged_event_is_elsewhere(history: History, rng: Random) -> History:
    number, call = a_call(history, rng, "note", "ask")
    return with_call(history, number, replace(call, offset="1764000000000000_0000000000009999"))


@breaks("doubled")
def an_id_is_stored_twice(history: History, rng: Random) -> History:
    session, number, event = one(history, rng)
    return stored_behind(history, session, number, event)


@breaks("doubled")
def a_reader_gets_an_event_twice(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    place = got(reading, rng)
    return with_steps(history, number, [*reading.steps[: place + 1], *reading.steps[place:]])


@breaks("doubled")
def one_who_is_to_get_each_event_once_gets_it_again_after_a_rewind(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng, once=True)
    place = got(reading, rng)
    again = [Rewound(reading.steps[place].at, ""), reading.steps[place]]
    return with_steps(history, number, [*reading.steps[: place + 1], *again, *reading.steps[place + 1 :]])


@breaks("doubled")
def a_retry_is_acknowledged_at_another_offset(history: History, rng: Random) -> History:
    _, call = a_call(history, rng, "note", "ask")
    other = replace(call, offset="1764000000000000_0000000000000777")
    return replace(history, calls=[*history.calls, other])


@breaks("order")
def a_reader_gets_two_events_in_another_order(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng, once=False)
    steps, had, pairs = list(reading.steps), set[str](), []
    for place, (first, second) in enumerate(pairwise(steps)):
        if isinstance(first, Got) and isinstance(second, Got) and not {first.event.offset, second.event.offset} & had:
            pairs.append(place)  # of what has come before, it is said that it comes twice
        had |= {first.event.offset} if isinstance(first, Got) else set()
    place = rng.choice(pairs)
    steps[place], steps[place + 1] = steps[place + 1], steps[place]
    return with_steps(history, number, steps)


@breaks("order")
def what_is_older_comes_late_and_nothing_had_told_of_a_hole(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng, once=True)
    steps = [step for step in reading.steps if isinstance(step, Got)]
    steps.sort(key=lambda step: step.event.offset)
    place = rng.randrange(len(steps) - 1)
    steps[place], steps[place + 1] = steps[place + 1], steps[place]
    return with_steps(history, number, [Opened(99.0, "start"), *steps])


@breaks("order")
def one_hole_is_filled_in_two_steps_back(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng, once=True)
    steps = sorted((s for s in reading.steps if isinstance(s, Got)), key=lambda step: step.event.offset)
    place = rng.randrange(1, len(steps) - 3)
    late = [Rewound(steps[place].at, steps[place - 1].event.offset), *(steps[place + n] for n in (2, 1, 0))]
    return with_steps(history, number, [Opened(99.0, "start"), *steps[:place], *late, *steps[place + 3 :]])


@breaks("order")
def a_client_s_appends_are_stored_in_another_order(history: History, rng: Random) -> History:
    client = rng.choice([reading for reading in history.readings if reading.once])
    calls, events = list(history.calls), [e for e in history.stored[client.session] if e.type == "app.note"]
    for event, invoked in ((events[0], 2.0), (events[-1], 1.0)):
        number = next(n for n, call in enumerate(calls) if (call.session, call.id) == (client.session, event.id))
        calls[number] = replace(calls[number], who=client.who, invoked=invoked)
    return replace(history, calls=calls)


@breaks("order")
def the_log_is_not_in_order(history: History, rng: Random) -> History:
    session, number, _ = one(history, rng)
    log = list(history.stored[session])
    number = min(number, len(log) - 2)
    log[number], log[number + 1] = log[number + 1], log[number]
    return with_log(history, session, log)


@breaks("invented")
def a_reader_gets_what_is_not_stored(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    place = got(reading, rng)
    step = reading.steps[place]
    assert isinstance(step, Got)
    event = replace(step.event, offset=step.event.offset + "+", id="nobody's")
    return with_steps(history, number, [*reading.steps[: place + 1], Got(step.at, event), *reading.steps[place + 1 :]])


@breaks("unlike")
def a_reader_gets_another_event_than_the_others(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    place = got(reading, rng)
    step = reading.steps[place]
    assert isinstance(step, Got)
    other = replace(step, event=replace(step.event, body={**step.event.body, "value": "another"}))
    return with_steps(history, number, [*reading.steps[:place], other, *reading.steps[place + 1 :]])


@breaks("refused")
def what_was_refused_is_stored(history: History, rng: Random) -> History:
    number, call = a_call(history, rng, "note", "ask")
    return with_call(history, number, replace(call, outcome="refused", offset=None))


@breaks("text")
def a_completed_answer_lacks_a_letter(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "message.completed")
    message = event.body["message"]
    cut = rng.randrange(len(message["content"]))
    text = message["content"][:cut] + message["content"][cut + 1 :]
    return changed(history, session, number, body={**event.body, "message": {**message, "content": text}})


@breaks("text")
def a_completed_answer_says_a_word_twice(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "message.completed")
    message = event.body["message"]
    text = message["content"] + message["content"][-3:]
    return changed(history, session, number, body={**event.body, "message": {**message, "content": text}})


@breaks("text")
def a_run_that_was_stopped_has_said_what_its_writer_never_sent(history: History, rng: Random) -> History:
    stopped = {e.run for log in history.stored.values() for e in log if e.body.get("outcome") == {"type": "cancelled"}}
    session = rng.choice(sorted(history.stored))
    log = history.stored[session]
    number = next(n for n, e in enumerate(log) if e.run in stopped and e.type == "TEXT_MESSAGE_CONTENT")
    return changed(history, session, number, body={**log[number].body, "delta": "X" + log[number].body["delta"][1:]})


@breaks("stale")
def a_writer_is_taken_in_that_was_taken_over(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "run.taken_over")
    body = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": ""}
    late = replace(event, type="TEXT_MESSAGE_CONTENT", actor="agent:w1", id=None, at=0, body=body)
    return stored_behind(history, session, number, late)


@breaks("stale")
def something_of_a_run_stands_behind_its_end(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "RUN_FINISHED")
    body = {"type": "TEXT_MESSAGE_END", "messageId": "m"}
    return stored_behind(history, session, number, replace(event, type="TEXT_MESSAGE_END", id=None, body=body))


@breaks("stale")
def a_run_ends_twice(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "RUN_FINISHED")
    return stored_behind(history, session, number, replace(event, id="another"))


@breaks("winner")
def a_run_is_begun_twice(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "RUN_STARTED")
    return stored_behind(history, session, number, replace(event, id="another", actor="agent:w2"))


@breaks("winner")
def a_run_is_taken_over_by_two_in_one_generation(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "run.taken_over")
    return stored_behind(history, session, number, replace(event, id="another", actor="agent:w3"))


@breaks("winner")
def a_request_is_answered_twice(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "input.answered", "control.accepted")
    return stored_behind(history, session, number, replace(event, id="another"))


@breaks("winner")
def two_are_told_that_they_won(history: History, rng: Random) -> History:
    number, call = a_call(history, rng, "answer", "floor", outcome="refused")
    return with_call(history, number, replace(call, outcome="ok", winner=None))


@breaks("winner")
def the_one_who_did_not_win_is_told_that_he_did(history: History, rng: Random) -> History:
    number, call = a_call(history, rng, "claim", "floor", "answer")
    return with_call(history, number, replace(call, participant="agent:w9"))


@breaks("winner")
def one_who_lost_is_told_of_another_winner(history: History, rng: Random) -> History:
    number, call = a_call(history, rng, "answer", "floor", outcome="refused")
    return with_call(history, number, replace(call, winner="user:nobody"))


@breaks("winner")
def two_have_the_floor_in_one_generation(history: History, rng: Random) -> History:
    session, number, event = one(history, rng, "handoff.accepted")
    floor = {**event.body["floor"], "participant": "operator:o1"}
    body = {**event.body, "floor": floor, "request": "another"}
    return stored_behind(history, session, number, replace(event, type="floor.claimed", id="another", body=body))


@breaks("end")
def a_run_has_no_end(history: History, rng: Random) -> History:
    session, _, event = one(history, rng, "RUN_FINISHED")
    return nowhere(history, session, event)


@breaks("end")
def a_request_has_no_outcome(history: History, rng: Random) -> History:
    session, _, event = one(history, rng, "input.answered", "control.accepted")
    return nowhere(history, session, event)


@breaks("end")
def a_question_has_no_run(history: History, rng: Random) -> History:
    session, _, event = one(history, rng, "RUN_STARTED")
    while not str(event.run).startswith("run-"):
        session, _, event = one(history, rng, "RUN_STARTED")
    for each in [e for e in history.stored[session] if e.run == event.run]:
        history = nowhere(history, session, each)
    return history


@breaks("believed dead")
def one_is_believed_dead_to_whom_nothing_was_done(history: History, _: Random) -> History:
    return replace(history, faults=[])


@breaks("found late")
def a_death_is_known_late(history: History, rng: Random) -> History:
    for session, log in history.stored.items():
        for number, event in enumerate(log):
            if event.ts > (history.lives[0].killed or 0) > log[number - 1].ts and event.type == "run.orphaned":
                return changed(history, session, number, ts=event.ts + rng.uniform(6, 60))
    raise AssertionError("nobody was killed")


@breaks("presence")
def one_who_is_there_is_not_shown(history: History, _: Random) -> History:
    return replace(history, members=[replace(history.members[0], found=frozenset())])


@breaks("presence")
def one_who_has_gone_is_shown(history: History, _: Random) -> History:
    found = history.members[0].found | {("user:gone", "d9")}
    return replace(history, members=[Members("s0", found, history.members[0].expected)])


@breaks("pause")
def nothing_comes_for_longer_than_a_fault_explains(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    begin, end = history.load
    at = rng.uniform(begin + 0.5, end - 0.5)
    host = reading.who.partition(".")[0].partition("-")[0]
    fault = rng.choice(
        [
            Fault("kill", "n1", at, at + 1.0),
            Fault("partition", "n2", at, at + 2.0),
            Fault("stop", "n3", at, at + 0.5),
            Fault("half-open", host, at, at + 4.0),
            Fault("reset", host, at, at),
        ]
    )
    until = explains_until(fault, host)
    assert until is not None
    by = until - at + rng.uniform(3.6, 10.0)
    steps = [replace(step, at=step.at + by) if step.at > at else step for step in reading.steps]
    return with_steps(replace(history, load=(begin, end + by), faults=[fault]), number, steps)


@breaks("pause")
def nothing_comes_for_a_while_and_nothing_explains_it(history: History, rng: Random) -> History:
    number, reading = a_reading(history, rng)
    begin, end = history.load
    middle, by = rng.uniform(begin, end - 0.5), rng.uniform(4.5, 30)
    # A kill explains what follows it, so there is none.
    steps = [replace(step, at=step.at + by) if step.at > middle else step for step in reading.steps]
    whole = replace(history, load=(begin, end + by), faults=[])
    others = [
        replace(r, steps=[replace(s, at=s.at + (by if s.at > end else 0)) for s in r.steps]) for r in whole.readings
    ]
    return with_steps(replace(whole, readings=others), number, steps)
