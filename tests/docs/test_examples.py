"""Every Python example of the documentation runs, against a real broker, and prints what the page says.

A page is read as a notebook: its ```python blocks run in order, in an empty directory, with `await` at the top level
and names kept. A ```text block that follows at once is what the block prints, with `…` for anything.
```python file=PATH shows a file of the project, from its first import on; ```python no-run is left alone.
"""

from __future__ import annotations

import ast
import inspect
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.docs.pages import ROOT, Fence, fences, label, pages, says


def _python(path: Path) -> list[Fence]:
    return [fence for fence in fences(path) if fence.language == "python"]


def _shown_file(fence: Fence) -> Path | None:
    return next((ROOT / word.removeprefix("file=") for word in fence.words if word.startswith("file=")), None)


_ALL = [fence for path in pages() for fence in _python(path)]
# One that needs a broker with a door: tests/docs/test_native_agents.py follows the page.
_ELSEWHERE = {ROOT / "docs/guides/native-agents.md"}
_NOTEBOOKS = [path for path in pages() if path not in _ELSEWHERE and any(not fence.words for fence in _python(path))]
_SHOWN = [fence for fence in _ALL if _shown_file(fence) is not None]


async def run_block(fence: Fence, names: dict[str, Any]) -> str:
    """Run a block of a page with top-level await; return what it printed."""
    source = "\n" * (fence.line - 1) + fence.text
    code = compile(source, label(fence.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed = io.StringIO()
    with redirect_stdout(printed), capture_logs():  # log lines are not part of what an example prints
        value = eval(code, names)
        if inspect.iscoroutine(value):
            await value
    return printed.getvalue()


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=label)
async def test_the_examples_of_a_page_run_and_print_what_it_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    for fence in _python(path):
        if fence.words:
            continue
        printed = await run_block(fence, names)
        if fence.output is not None:
            assert says(printed, fence.output), f"{label(path)}, line {fence.line}, printed:\n{printed}"


@pytest.mark.parametrize("fence", _SHOWN, ids=lambda fence: f"{label(fence.page)}:{fence.line}")
def test_a_page_shows_a_file_as_it_is(fence: Fence) -> None:
    file = _shown_file(fence)
    assert file is not None
    source = file.read_text(encoding="utf-8")
    assert fence.text.strip() == source[source.index("import ") :].strip()


@pytest.mark.parametrize("fence", _ALL, ids=lambda fence: f"{label(fence.page)}:{fence.line}")
def test_a_python_block_runs_shows_a_file_or_says_that_it_does_neither(fence: Fence) -> None:
    assert not fence.words or fence.words == ("no-run",) or _shown_file(fence) is not None
