"""Whatever the live feed does, a follower ends with every event, once, in order."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, example, find, given, settings
from hypothesis import strategies as st
from session_fabric.rules.splice import DELIVER, DUPLICATE, GAP, LATE, Splice, Verdict

from tests.support.splicing import EV, IN, SUBJECTS, TOK, Action, Follower, Log, actions, assert_exact, play

# --- the whole -----------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions, st.sampled_from([1, 2, 1024]))
@example([("append", 0, EV), ("append", 0, TOK), ("append", 0, EV), ("arrive", 1, EV), ("arrive", 1, EV)], 2)
@example([("append", 0, EV), ("append", 0, IN), ("arrive", 1, EV), ("cut", 1, EV), ("check", 0, EV)], 2)
def test_every_event_is_delivered_once_and_in_order(script: list[Action], max_subjects: int) -> None:
    play(Splice(max_subjects=max_subjects), script)


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(12)), st.lists(st.sampled_from(SUBJECTS), min_size=12, max_size=12))
def test_a_feed_in_any_order_ends_exact(order: list[int], subjects: list[str]) -> None:
    log = Log()
    follower = Follower(log, Splice())
    for subject in subjects:
        log.append(subject)
    for index in order:
        follower.live(log.feed[index])
    follower.check()

    assert_exact(follower, log.head())


@pytest.mark.parametrize("lost", SUBJECTS)
def test_the_lost_last_event_of_a_subject_is_found_by_the_check(lost: str) -> None:
    others = [s for s in SUBJECTS if s != lost]
    script: list[Action] = [("append", 0, lost), ("drop", 0, lost)]
    for other in others:
        script += [("append", 0, other), ("arrive", 0, other)]

    follower = play(Splice(), script)

    assert [s.subject for s in follower.clients[0].events] == [lost, *others]


# --- the test bites -------------------------------------------------------------------------------


class NoCheck(Splice):
    def check(self, lasts: Mapping[str, int], upto: int) -> bool:
        self.filled(upto)
        return True


class NoChain(Splice):
    def live(self, subject: str, sequence: int, previous: int) -> Verdict:
        return super().live(subject, sequence, 0)


class NoLate(Splice):
    def live(self, subject: str, sequence: int, previous: int) -> Verdict:
        verdict = super().live(subject, sequence, previous)
        if verdict is LATE:
            self.last[subject] = sequence
            return DELIVER
        return verdict


class NoRewind(Splice):
    def stored(self, subject: str, sequence: int) -> Verdict:
        verdict = super().stored(subject, sequence)
        if verdict is LATE:
            self.verified = sequence
            return DELIVER
        return verdict


class RewindThatForgetsNothing(Splice):
    def rewound(self) -> int:
        self.delivered = self.verified
        return self.verified


class ChainOfTheWholeSession(Splice):
    """Takes any later event for proof that the earlier ones were had."""

    def check(self, lasts: Mapping[str, int], upto: int) -> bool:
        if self.delivered >= upto:
            self.filled(upto)
            return True
        return super().check(lasts, upto)


class NoDuplicates(Splice):
    def live(self, subject: str, sequence: int, previous: int) -> Verdict:
        verdict = super().live(subject, sequence, previous)
        return DELIVER if verdict is DUPLICATE else verdict


BROKEN = [
    NoCheck,
    NoChain,
    NoLate,
    NoRewind,
    RewindThatForgetsNothing,
    ChainOfTheWholeSession,
    NoDuplicates,
]


def fails(splice: Splice, script: list[Action], *, careless: bool = False) -> bool:
    try:
        play(splice, script, careless=careless)
    except AssertionError:
        return True
    return False


FINDING = settings(max_examples=5000, phases=[Phase.generate], database=None, deadline=None)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_splice_is_found_out(broken: type[Splice]) -> None:
    script = find(actions, lambda s: fails(broken(), s), settings=FINDING, random=Random(1))

    assert not fails(Splice(), script)


def test_believing_a_replica_that_is_behind_is_found_out() -> None:
    script = find(actions, lambda s: fails(Splice(), s, careless=True), settings=FINDING, random=Random(1))

    assert not fails(Splice(), script)


# --- its parts ------------------------------------------------------------------------------------


def test_an_event_is_delivered_once() -> None:
    splice = Splice(10)

    assert splice.live(EV, 11, 9) is DELIVER
    assert splice.live(EV, 11, 9) is DUPLICATE
    assert splice.live(EV, 10, 0) is DUPLICATE
    assert (splice.verified, splice.delivered) == (10, 11)


def test_what_was_had_is_known_by_its_subject() -> None:
    splice = Splice(10)
    splice.live(EV, 12, 0)

    assert [splice.had(*it) for it in [(EV, 9), (EV, 11), (EV, 12), (EV, 13), (TOK, 12)]] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_predecessor_that_was_not_seen_is_a_gap_and_records_nothing() -> None:
    splice = Splice(10)

    assert splice.live(EV, 13, 12) is GAP
    assert splice.live(EV, 12, 0) is DELIVER
    assert splice.live(EV, 13, 12) is DELIVER


def test_an_event_below_what_was_delivered_is_late_until_a_fill_brings_it() -> None:
    splice = Splice(10)
    splice.live(EV, 14, 0)

    assert splice.live(TOK, 12, 0) is LATE
    assert splice.stored(TOK, 12) is LATE
    assert splice.rewound() == 10
    assert splice.stored(TOK, 12) is DELIVER
    assert splice.stored(EV, 14) is DELIVER
    splice.filled(14)
    assert splice.live(EV, 14, 0) is DUPLICATE
    assert (splice.verified, splice.delivered, splice.last) == (14, 14, {})


def test_a_fill_that_brings_nothing_below_what_was_delivered_needs_no_rewind() -> None:
    splice = Splice(10)
    splice.live(EV, 12, 0)

    assert [splice.stored(s, n) for s, n in [(EV, 12), (TOK, 13)]] == [DUPLICATE, DELIVER]
    assert splice.stored(TOK, 13) is DUPLICATE, "read again after a broken connection"


def test_a_predecessor_that_was_purged_is_a_gap_only_once() -> None:
    splice = Splice(10)
    assert splice.live(TOK, 15, 13) is GAP
    splice.filled(15)  # the read brought nothing: 13 and 15 are gone

    assert splice.live(TOK, 15, 13) is DUPLICATE
    assert splice.live(TOK, 16, 15) is DELIVER


def test_a_check_moves_verified_only_when_nothing_is_missing() -> None:
    splice = Splice(10)
    splice.live(EV, 11, 0)

    assert not splice.check({EV: 11, TOK: 12}, 12)
    assert splice.verified == 10
    splice.live(TOK, 12, 0)
    assert splice.check({EV: 11, TOK: 12, IN: 9}, 12)
    assert (splice.verified, splice.last) == (12, {})


def test_marks_never_move_back() -> None:
    splice = Splice(10)
    splice.filled(5)
    assert splice.check({}, 7)

    assert (splice.verified, splice.delivered) == (10, 10)


def test_too_many_subjects_ask_for_a_fill_so_that_memory_is_bounded() -> None:
    splice = Splice(max_subjects=2)
    splice.live("a", 1, 0)
    splice.live("b", 2, 0)

    assert splice.live("c", 3, 0) is GAP
    assert splice.live("a", 4, 1) is DELIVER
    splice.filled(4)
    assert splice.live("c", 5, 3) is DELIVER
