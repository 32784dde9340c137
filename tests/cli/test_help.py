"""What commands say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from session_fabric_cli.main import run
from session_fabric_cli.tree import ROOT, Branch


def commands(branch: Branch, *path: str) -> Iterator[tuple[str, ...]]:
    for name, entry in branch.below.items():
        if isinstance(entry, Branch):
            yield from commands(entry, *path, name)
        else:
            yield *path, name


def test_usage_and_options_are_spelled_as_the_documents_spell_them(capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(ROOT):
        assert run([*command, "--help"]) == 0
        told = capsys.readouterr().out
        assert not re.search(r"[{}]|\[\[|range>", told), told
