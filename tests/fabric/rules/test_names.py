"""The names that people choose."""

from __future__ import annotations

import sys
import unicodedata
from contextlib import suppress

import pytest
from session_fabric.words.errors import InvalidName
from session_fabric.words.names import check_participant

# Control, format, surrogate, line and paragraph separators, spaces.
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}


def test_a_participants_name_has_nothing_that_cannot_be_seen() -> None:
    taken = []
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(character) in UNSEEN:
            with suppress(InvalidName):
                taken.append(check_participant(f"user:a{character}da"))
    assert taken == ["user:a\u200cda", "user:a\u200dda"]  # joiners: no Persian without them


@pytest.mark.parametrize("name", ["user:zoë", "agent:日本", "user:مریم", "operator:a.b-c@d/e:f", "user:🙂"])
def test_letters_and_signs_of_every_script_may_stand_in_it(name: str) -> None:
    assert check_participant(name) == name


@pytest.mark.parametrize("name", ["user:a*b", "user:a>", "user:", "ada", "user:" + "a" * 129, 7])
def test_what_is_no_participants_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidName):
        check_participant(name)
