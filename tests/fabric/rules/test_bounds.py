"""What one participant can make that stays has a number, and what is over it is told the number and a way out."""

from __future__ import annotations

import pytest
from session_fabric.rules.bounds import (
    BOUNDS,
    MOST_FORKS,
    MOST_LABEL_BYTES,
    MOST_LABELS,
    MOST_SEGMENTS,
    SMALL_BYTES,
    check_fits,
    check_labels,
    check_shares,
)
from session_fabric.words.errors import FabricError, LimitExceeded

DOCUMENTS = BOUNDS["sf-state"]
assert DOCUMENTS.most_bytes is not None


@pytest.mark.parametrize("bucket", BOUNDS)
def test_one_more_than_there_may_be_is_refused_and_what_is_there_is_not(bucket: str) -> None:
    bound = BOUNDS[bucket]
    there = {f"k{n}": 1 for n in range(bound.most)}
    check_fits(bound, there, "k0", 1)
    with pytest.raises(LimitExceeded, match=f"{bound.most} is the most") as refused:
        check_fits(bound, there, "new", 1)
    assert (refused.value.facts["limit"], refused.value.hint) == (bound.most, bound.hint)


def test_documents_that_are_too_large_together_are_refused_and_small_ones_are_let_in() -> None:
    there = {f"k{n}": DOCUMENTS.most_bytes // 10 for n in range(10)}
    check_fits(DOCUMENTS, there, "small", SMALL_BYTES)
    check_fits(DOCUMENTS, there, "k0", there["k0"])
    for key, size in (("new", SMALL_BYTES + 1), ("k0", there["k0"] + 10)):
        with pytest.raises(LimitExceeded, match="bytes together") as refused:
            check_fits(DOCUMENTS, there, key, size)
        assert refused.value.facts["limit"] == DOCUMENTS.most_bytes


@pytest.mark.parametrize("labels", [{f"l{n}": "" for n in range(MOST_LABELS + 1)}, {"title": "x" * MOST_LABEL_BYTES}])
def test_labels_have_a_number_and_a_size(labels: dict[str, str]) -> None:
    check_labels({"title": "x" * 1000})
    with pytest.raises(LimitExceeded):
        check_labels(labels)


def test_labels_that_are_no_text_are_refused() -> None:
    with pytest.raises(FabricError, match="not JSON"):
        check_labels({"title": "\ud800"})


def test_forks_have_a_number_and_a_depth() -> None:
    check_shares(MOST_FORKS, MOST_SEGMENTS)
    for forks, segments in ((MOST_FORKS + 1, 1), (1, MOST_SEGMENTS + 1)):
        with pytest.raises(LimitExceeded):
            check_shares(forks, segments)
