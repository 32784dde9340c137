"""Ids that nobody else has: neither in this process nor in its children."""

from __future__ import annotations

import multiprocessing

from session_fabric.words.names import is_id, new_id


def test_ids_are_of_one_length_and_form_and_never_twice() -> None:
    ids = [new_id("x-") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(is_id(id) and len(id) == 22 for id in ids)


def test_a_child_makes_other_ids_than_its_parent() -> None:
    new_id()  # what is left of a draw is the child's too
    with multiprocessing.get_context("fork").Pool(2) as children:
        theirs = [id for ids in children.map(_some, range(2), chunksize=1) for id in ids]
    ours = _some(0)
    assert len({*theirs, *ours}) == len(theirs) + len(ours)


def _some(_: int) -> list[str]:
    return [new_id() for _ in range(200)]
