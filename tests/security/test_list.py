"""The list of attacks is run whole, and is what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import ROOT, page
from tests.security.attacks import ATTACKS

_ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+) \| (.+) \|$", re.MULTILINE)


def test_every_attack_has_a_test_and_no_id_is_there_twice() -> None:
    run = set()
    for path in (*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests/conformance").glob("test_*.py")):
        for ids in re.findall(r"^@runs\(([^)]*)\)\n(?:@.*\n)*async def test_", path.read_text(), re.MULTILINE):
            run |= set(re.findall(r'"([A-Z]\d+)"', ids))
    assert run == {attack.id for attack in ATTACKS}
    assert len({attack.id for attack in ATTACKS}) == len(ATTACKS)


def test_the_page_has_the_list() -> None:
    assert _ROW.findall(page("docs/attacks.md")) == [tuple(attack) for attack in ATTACKS]
    assert "(attacks.md)" in page("docs/security.md")
