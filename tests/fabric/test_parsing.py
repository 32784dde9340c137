"""JSON that others wrote: what is refused is refused with what orjson says, and costs next to nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.words.parsing import MOST_LEVELS, TooDeep, read_json


def outcome(read: Callable[[bytes], Any], text: str) -> Any:
    try:
        return read(text.encode())
    except orjson.JSONDecodeError as error:
        return str(error), error.pos


texts = st.one_of(st.text(max_size=20), st.text('{}[]",:0-+.eE tfnulx\n', max_size=20))


@given(texts)
@example("")
@example("é")
@example("x")
@example("+1")
@example("\ufeff{}")
def test_what_orjson_refuses_is_refused_in_its_words(text: str) -> None:
    assert outcome(read_json, text) == outcome(orjson.loads, text)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_only_what_has_too_many_levels_is_too_deep(opening: bytes, closing: bytes) -> None:
    read_json(opening * MOST_LEVELS + b"1" + closing * MOST_LEVELS)
    with pytest.raises(TooDeep):
        read_json(opening * (MOST_LEVELS + 1) + b"1" + closing * (MOST_LEVELS + 1))
    read_json(b"[" + b",".join([opening + b"1" + closing] * 1000) + b"]")


def test_of_much_that_is_no_json_no_copy_is_made() -> None:
    data = b"x" * 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(orjson.JSONDecodeError):
            read_json(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
