"""What docs/guarantees.md promises is held by tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, page, rows

_PAGE = page("docs/guarantees.md")
_TEST = re.compile(r"`([\w/.-]+\.py)(?:::(\w+))?`")
_PROMISES = [row for row in rows(_PAGE) if row[0] not in ("promise", "") and not row[0].startswith("---")]
_HELD = sorted({named for promise in _PROMISES for named in _TEST.findall(promise[-1])})


def test_every_promise_names_a_test() -> None:
    assert len(_PROMISES) > 30
    assert [promise[0] for promise in _PROMISES if not _TEST.search(promise[-1])] == []


@pytest.mark.parametrize(("file", "name"), _HELD, ids=[name or file for file, name in _HELD])
def test_what_holds_a_promise_is_there(file: str, name: str) -> None:
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert re.search(rf"^\s*(?:async )?def {name or 'test_'}", text, re.MULTILINE) is not None
    if name:
        assert re.search(rf"def {name}\(", text) is not None
