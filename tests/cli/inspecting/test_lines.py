"""Which events are wanted, when each is due in a replay, and moments on the command line."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset
from session_fabric_cli.inspecting.lines import Wanted, line
from session_fabric_cli.inspecting.timing import Timing
from session_fabric_cli.times import since_ms

NOW = 1_767_225_600_000


def event(type: str, actor: str = "agent:a", run: str | None = "r1", at: int | None = None, **body: object) -> Event:
    return Event(Offset(1, 2), "e1", type, actor, run, NOW, orjson.dumps({"type": type, **body}), at)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), True),
        (Wanted(run="r1"), True),
        (Wanted(run="r2"), False),
        (Wanted(types=["run.*", "app.*"]), True),
        (Wanted(types=["run.*"]), False),
        (Wanted(participants=["agent:*"]), True),
        (Wanted(participants=["user:*"]), False),
        (Wanted("r1", ["app.*"], ["user:ada"]), False),
    ],
)
def test_an_event_is_shown_when_all_that_was_asked_for_is_true_of_it(wanted: Wanted, taken: bool) -> None:
    assert wanted.takes(event("app.note")) is taken


def test_pieces_of_texts_are_shown_to_who_asks_for_them() -> None:
    piece = event("TEXT_MESSAGE_CONTENT", at=0, delta="x")
    assert not Wanted().takes(piece)
    assert Wanted(deltas=True).takes(piece)


def test_what_is_asked_of_a_run_counts_as_the_runs() -> None:
    assert Wanted("r2").takes(_control())


def _control() -> Event:
    raw = orjson.dumps({"type": "control.requested", "run": "r2"})
    return Event(Offset(1, 2), "e1", "control.requested", "user:ada", None, NOW, raw)


def test_a_line_is_one_line_in_every_form() -> None:
    noisy = event("app.note", text="a\nb\x1b[2J\x85")
    assert len(line(noisy, "table").splitlines()) == 1
    assert "\x1b" not in line(noisy, "table")
    assert orjson.loads(line(noisy, "json"))["offset"] == "0000000000000001_0000000000000002"
    assert line(noisy, "yaml").startswith("---\noffset: ")


@given(
    st.lists(st.integers(0, 10**7), max_size=20),
    st.floats(0.1, 100),
    st.one_of(st.none(), st.floats(0, 10)),
)
def test_a_replay_lasts_as_long_as_it_did_by_its_speed_and_no_pause_is_longer_than_allowed(
    times: list[int], speed: float, most: float | None
) -> None:
    timing = Timing(speed, most)
    pauses = [timing.pause_s(ts) for ts in times]
    assert all(pause >= 0 and (most is None or pause <= most) for pause in pauses)
    if most is None and times:
        assert abs(sum(pauses) - (max(times) - times[0]) / 1000 / speed) < 1e-6 * max(1, max(times))


def test_a_replay_at_no_speed_waits_for_nothing() -> None:
    timing = Timing(0)
    assert [timing.pause_s(ts) for ts in (0, 10_000, 5)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "ago_ms"),
    [("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("3d", 259_200_000), ("2025-12-31", 86_400_000)],
)
def test_a_moment_is_how_long_ago_or_when(text: str, ago_ms: int) -> None:
    assert since_ms(text, NOW) == NOW - ago_ms


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-1h", "10x", "2025-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no time"):
        since_ms(text, NOW)
