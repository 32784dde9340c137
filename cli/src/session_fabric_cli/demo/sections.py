"""Documentation, cut into the sections that can be found and quoted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
_FENCE = re.compile(r"\s*(```|~~~)")
_STARTS = re.compile(r"\||[-*] |\d+\. ")
_RULE = re.compile(r"\|[-:| ]+\|\s*")
_NOT_ANCHOR = re.compile(r"[^\w\- ]")


class Section(NamedTuple):
    """A heading and what stands under it, up to the next heading. `path` is relative to the project."""

    path: str
    document: str
    heading: str
    anchor: str
    text: str

    @property
    def title(self) -> str:
        return self.heading if self.heading == self.document else f"{self.document}: {self.heading}"

    @property
    def link(self) -> str:
        return f"{self.path}#{self.anchor}"


def split(path: str, markdown: str) -> list[Section]:
    """Cut a document at its headings; sections without text of their own are left out."""
    document = Path(path).stem
    heading, lines, fenced = "", list[str](), False
    found: list[Section] = []

    def close() -> None:
        text = "\n".join(lines).strip()
        if text:
            name = heading or document
            found.append(Section(path, document, name, anchor(name), text))
        lines.clear()

    for line in markdown.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        match = None if fenced else _HEADING.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        close()
        heading = plain(match[2])
        if len(match[1]) == 1 and not found:
            document = heading
    close()
    return found


def blocks(text: str) -> list[str]:
    """Cut a section into what can be quoted alone: paragraphs, list items, table rows, whole code blocks."""
    found: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        fence = _FENCE.match(line) is not None
        starts = not fenced and (fence or _STARTS.match(line))
        if _RULE.fullmatch(line) and not fenced:
            starts = None  # stays with its heading row
        if starts or (not fenced and not line.strip()):
            found.append([])
        found[-1].append(line)
        if fence and fenced:
            found.append([])
        fenced ^= fence
    return [block for lines in found if (block := "\n".join(lines).strip())]


def plain(markdown: str) -> str:
    """Take the marks out of a line of Markdown, keeping what they mark."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"[`*]", "", text).strip()


def anchor(heading: str) -> str:
    """Spell a heading as the fragment that GitHub gives it."""
    return _NOT_ANCHOR.sub("", heading.lower()).strip().replace(" ", "-")


def find_documents() -> dict[str, str]:
    """Return the project's pages by path: those in the package, else those of the checkout that it runs from."""
    packaged = Path(__file__).parent / "docs"
    root = packaged if packaged.is_dir() else Path(__file__).parents[4]
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return {str(page.relative_to(root)): page.read_text(encoding="utf-8") for page in pages if page.is_file()}


def find_sections() -> list[Section]:
    return [section for path, text in find_documents().items() for section in split(path, text)]
