"""What a run's author adds leaves in order, whole, at the right positions and in good time."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.batching import Batcher, Delta, Milestone, Snapshots
from session_fabric.words.events import utf16_length

TEXT = "TEXT_MESSAGE_CONTENT"
MORE = "REASONING_MESSAGE_CONTENT"


def drain(batcher: Batcher[str], now: float = 1e6) -> list[Delta | Milestone[str]]:
    items = []
    while not batcher.empty:
        item = batcher.next(now)
        assert item is not None
        items.append(item)
        batcher.done()
        now += 1
    return items


def test_the_first_token_leaves_at_once() -> None:
    batcher = Batcher[str]()
    batcher.add_text(TEXT, "m1", "Hel")

    assert batcher.deadline(5.0) == 5.0
    assert batcher.next(5.0) == Delta(TEXT, "m1", 0, "Hel")


def test_tokens_gather_while_one_publish_flies_and_leave_together() -> None:
    batcher = Batcher[str]()
    batcher.add_text(TEXT, "m1", "Hel")
    batcher.next(5.0)
    batcher.add_text(TEXT, "m1", "lo, ")
    batcher.add_text(TEXT, "m1", "Ada")

    assert (batcher.next(9.0), batcher.deadline(9.0)) == (None, None)
    batcher.done()
    assert batcher.next(9.0) == Delta(TEXT, "m1", 3, "lo, Ada")


def test_a_flush_waits_for_the_window_since_the_last_one() -> None:
    batcher = Batcher[str](window_s=0.5)
    batcher.add_text(TEXT, "m1", "a")
    batcher.next(1.0)
    batcher.done()
    batcher.add_text(TEXT, "m1", "b")

    assert (batcher.next(1.25), batcher.deadline(1.25)) == (None, 1.5)
    assert batcher.next(1.5) == Delta(TEXT, "m1", 1, "b")


def test_a_full_batch_does_not_wait_for_the_window() -> None:
    batcher = Batcher[str](max_bytes=8)
    batcher.add_text(TEXT, "m1", "a")
    batcher.next(1.0)
    batcher.done()
    batcher.add_text(TEXT, "m1", "12345678")

    assert batcher.next(1.0) == Delta(TEXT, "m1", 1, "12345678")


def test_a_milestone_waits_for_no_window_and_pushes_out_what_is_before_it() -> None:
    batcher = Batcher[str]()
    batcher.add("started")
    batcher.add_text(TEXT, "m1", "a")
    batcher.add("ended", 3)

    items = []
    for _ in range(3):
        items.append(batcher.next(1.0))
        batcher.done()
    assert items == [Milestone("started", 0), Delta(TEXT, "m1", 0, "a"), Milestone("ended", 3)]
    assert batcher.idle


def test_without_anything_to_publish_there_is_nothing_to_wait_for() -> None:
    batcher = Batcher[str]()

    assert batcher.add_text(TEXT, "m1", "") == ""
    assert (batcher.next(1.0), batcher.deadline(1.0), batcher.empty, batcher.idle) == (None, None, True, True)


def test_it_is_idle_only_after_the_last_publish() -> None:
    batcher = Batcher[str]()
    batcher.add("ended")
    batcher.next(1.0)

    assert (batcher.empty, batcher.idle) == (True, False)


def test_it_is_full_until_what_is_in_flight_is_stored() -> None:
    batcher = Batcher[str](max_queued_bytes=4)
    batcher.add_text(TEXT, "m1", "日")
    assert not batcher.full
    batcher.add("x", 1)
    assert batcher.full

    batcher.next(1.0)
    assert batcher.full
    batcher.done()
    assert (batcher.full, batcher.queued_bytes) == (False, 1)


def test_after_a_takeover_positions_go_on_where_the_text_ends() -> None:
    batcher = Batcher[str]()
    batcher.begin_text(TEXT, "m1", 120)
    batcher.add_text(TEXT, "m1", "and")

    assert batcher.next(1.0) == Delta(TEXT, "m1", 120, "and")


def test_a_message_that_ended_is_forgotten() -> None:
    batcher = Batcher[str]()
    batcher.add_text(TEXT, "m1", "a")

    assert batcher.end_text(TEXT, "m1") == ""
    assert batcher.end_text(TEXT, "m1") == ""
    batcher.add_text(TEXT, "m1", "b")
    assert drain(batcher) == [Delta(TEXT, "m1", 0, "a"), Delta(TEXT, "m1", 0, "b")]


def test_a_surrogate_pair_that_comes_in_halves_is_joined() -> None:
    batcher = Batcher[str]()

    assert batcher.add_text(TEXT, "m1", "Hi \ud83d") == "Hi "
    batcher.add_text(MORE, "m1", "hm")
    assert batcher.add_text(TEXT, "m1", "\udc4b!") == "👋!"
    assert drain(batcher) == [
        Delta(TEXT, "m1", 0, "Hi "),
        Delta(MORE, "m1", 0, "hm"),
        Delta(TEXT, "m1", 3, "👋!"),
    ]


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    batcher = Batcher[str]()

    assert batcher.add_text(TEXT, "m1", "a\udc4bb\ud83d") == "a\ufffdb"
    assert batcher.add_text(TEXT, "m1", "c\ud83d") == "\ufffdc"
    assert batcher.end_text(TEXT, "m1") == "\ufffd"
    assert drain(batcher) == [Delta(TEXT, "m1", 0, "a\ufffdb\ufffdc\ufffd")]


def test_a_batch_too_small_for_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="max_bytes is 3"):
        Batcher[str](max_bytes=3)


pieces = st.text(alphabet=st.sampled_from("ab é日👋\u0301"), max_size=12)
additions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([TEXT, MORE]), st.sampled_from(["m1", "m2"]), pieces),
        st.tuples(st.just(""), st.just(""), st.text("xyz", min_size=1, max_size=3)),
    ),
    max_size=40,
)


@given(additions, st.integers(4, 30), st.lists(st.sampled_from(["next", "done", "wait"]), max_size=80))
def test_what_comes_out_is_what_went_in(added: list[tuple[str, str, str]], max_bytes: int, steps: list[str]) -> None:
    batcher = Batcher[str](max_bytes=max_bytes, max_queued_bytes=60, window_s=0.02)
    now, out = 0.0, []
    todo, clock = list(added), iter(steps)
    while todo or not batcher.empty:
        if todo and not batcher.full:
            type, message, text = todo.pop(0)
            if type:
                assert batcher.add_text(type, message, text) == text
            else:
                batcher.add(text, len(text))
            assert batcher.queued_bytes < 60 + 4 * 12
        step = next(clock, "done")
        if step == "wait":
            now += 0.01
            continue
        item = batcher.next(now)
        if item is not None:
            assert batcher.next(now) is None, "one publish in flight"
            out.append(item)
        if step == "done":
            batcher.done()
            now = max(now, batcher.deadline(now) or now)

    assert [i.item for i in out if isinstance(i, Milestone)] == [t for k, _, t in added if not k]
    ends: dict[tuple[str, str], int] = defaultdict(int)
    for item in out:
        if isinstance(item, Delta):
            assert item.at == ends[item.type, item.message], "positions are contiguous"
            assert 0 < len(item.text.encode()) <= max_bytes
            ends[item.type, item.message] += utf16_length(item.text)
    assert runs(delta_or_item(i) for i in out) == runs(added)


def delta_or_item(item: Delta | Milestone[str]) -> tuple[str, str, str]:
    return (item.type, item.message, item.text) if isinstance(item, Delta) else ("", "", item.item)


def runs(items: object) -> list[tuple[str, str, str]]:
    """Join neighbouring text of one message: what must stay the same however it was cut."""
    joined: list[tuple[str, str, str]] = []
    for type, message, text in items:  # type: ignore[attr-defined]
        if type and joined and joined[-1][:2] == (type, message):
            joined[-1] = (type, message, joined[-1][2] + text)
        elif text:
            joined.append((type, message, text))
    return joined


@given(st.text(st.characters(codec="utf-16-le", categories=None), max_size=20), st.data())
def test_text_cut_anywhere_between_code_units_comes_out_whole(text: str, data: st.DataObject) -> None:
    units = text.encode("utf-16-le")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(units) // 2), max_size=5)))
    batcher = Batcher[str]()

    taken = [
        batcher.add_text(TEXT, "m1", units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass"))
        for a, b in zip([0, *cuts], [*cuts, len(units) // 2], strict=True)
    ]

    assert batcher.end_text(TEXT, "m1") == ""
    assert "".join(taken) == text
    assert "".join(d.text for d in drain(batcher) if isinstance(d, Delta)) == text


def test_a_snapshot_is_due_after_so_much_new_text() -> None:
    snapshots = Snapshots("Gr", every_bytes=6)
    assert snapshots.text == "Gr"

    assert not snapshots.add("üße")
    assert (snapshots.text, snapshots.length) == ("Grüße", 5)
    assert snapshots.add("!")
    assert snapshots.taken() == "Grüße!"
    assert not snapshots.add("12345")
    assert snapshots.add("6")
