"""The project's pages: their fences, sections, tables and links. Reads files, decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
# Languages whose blocks may be followed by what they print.
RUN: Final = ("python", "sh")
_FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


class Fence(NamedTuple):
    """A fenced block; `output` is the `text` fence that follows at once, None where there is none."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str
    output: str | None = None


@cache
def pages() -> tuple[Path, ...]:
    """Return every page of the repository that is ours to keep right."""
    patterns = (
        "*.md",
        "docs/**/*.md",
        "*/README.md",
        "clients/*/README.md",
        "examples/*/README.md",
        "helm/*/README.md",
        "changes/*.md",
    )
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.parent.name[0] != "."}
    return tuple(sorted(found | {ROOT / "tests/golden/README.md"}))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(path: Path) -> list[Fence]:
    """Return a page's fenced blocks in order."""
    text = path.read_text(encoding="utf-8")
    found: list[Fence] = []
    end = 0
    for match in _FENCE.finditer(text):
        language, *words = match[2].split() or [""]
        line = text.count("\n", 0, match.start()) + 2
        if language == "text" and found and found[-1].language in RUN and not text[end : match.start()].strip():
            found[-1] = found[-1]._replace(output=match[3])
        found.append(Fence(path, line, language, tuple(words), match[3]))
        end = match.end()
    return found


def says(printed: str, expected: str) -> bool:
    """Compare what a block printed with what its page says; `…` there stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("…"))
    return re.fullmatch(pattern, printed.rstrip(), re.DOTALL) is not None


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text)


def sections(text: str) -> dict[str, str]:
    """Return what stands under each heading, up to the next heading of any level."""
    text = prose(text)
    headings = list(_HEADING.finditer(text))
    ends = [match.start() for match in headings[1:]] + [len(text)]
    return {match[2]: text[match.end() : end] for match, end in zip(headings, ends, strict=True)}


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", match[2].replace("`", "")).lower().replace(" ", "-")
        for match in _HEADING.finditer(prose(text))
    }


def links(path: Path) -> Iterator[str]:
    """Yield the target of each link of a page."""
    for match in _LINK.finditer(prose(path.read_text(encoding="utf-8"))):
        yield match[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each table row; `\\|` inside a cell stays one cell."""
    lines = [line.strip() for line in prose(text).splitlines() if line.strip().startswith("|")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    return [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def coded(text: str) -> set[str]:
    """Return what stands in backticks."""
    return set(_CODE.findall(prose(text)))
