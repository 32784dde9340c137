"""Full-text search over the documentation: SQLite's FTS5, ranked by BM25."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from session_fabric_cli.demo.sections import Section

# Words that say nothing about what is asked for.
_STOP_WORDS: Final = """
help a about after again all also am an and any are as at be been but by can could did do does doing done else
for from get give gets got had has have hello her here hey hi him his how i if in into is it its just know
let like may me might more most much must my no not now of off ok okay on one or our out over please really
say see shall she should show so some tell than thank thanks that the their them then there these they thing
things this those to too up us very was way we were what when where whether which while who whom whose why
will with would yes you your
"""
_STOP: Final = frozenset(_STOP_WORDS.split())
# Words that say little here, and count only where nothing else was said.
_WEAK_WORDS: Final = "session fabric use used uses using want work works make explain long many possible"
_WEAK: Final = frozenset(_WEAK_WORDS.split())
_WORD: Final = re.compile(r"[^\W_]+(?:_[^\W_]+)*")
# A section's heading says better than its text what it is about.
_WEIGHTS: Final = "4.0, 8.0, 1.0"


class Hit(NamedTuple):
    """A section that was found. `score` is BM25, higher is better; `coverage` the share of the asked-for words."""

    section: Section
    score: float
    coverage: float


class Search:
    """An index in memory. Not for use by several threads at once."""

    def __init__(self, sections: Iterable[Section]) -> None:
        self._sections = list(sections)
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(
            "CREATE VIRTUAL TABLE pages USING fts5(document, heading, text, tokenize='porter unicode61')"
        )
        self._index.executemany(
            "INSERT INTO pages (rowid, document, heading, text) VALUES (?, ?, ?, ?)",
            [(n, s.document, s.heading, s.text) for n, s in enumerate(self._sections)],
        )

    def close(self) -> None:
        self._index.close()

    def find(self, words: Sequence[str], *, limit: int = 5, without: frozenset[str] = frozenset()) -> list[Hit]:
        """Return the best sections for any of the words, best first; `without` are links to leave out."""
        if not words:
            return []
        ranked = self._index.execute(
            f"SELECT rowid, -bm25(pages, {_WEIGHTS}) AS score FROM pages WHERE pages MATCH ? ORDER BY score DESC",
            (" OR ".join(map(_quoted, words)),),
        ).fetchall()
        matching = {word: self._matching(word) for word in words}
        weights = self.weigh(words)
        total = sum(weights.values())
        hits = [
            Hit(
                self._sections[row],
                round(score, 3),
                round(sum(weights[w] for w in words if row in matching[w]) / total, 3),
            )
            for row, score in ranked
            if self._sections[row].link not in without
        ]
        # Sections that hold more of what was asked for come first; BM25 alone lets one frequent word win.
        hits.sort(key=lambda hit: hit.score * hit.coverage, reverse=True)
        return hits[:limit]

    def _matching(self, word: str) -> set[int]:
        rows = self._index.execute("SELECT rowid FROM pages WHERE pages MATCH ?", (_quoted(word),))
        return {row for (row,) in rows}

    def weigh(self, words: Sequence[str]) -> dict[str, float]:
        """Return how much each word tells; a word that is nowhere tells most of all."""
        return {word: math.log(1 + len(self._sections) / (len(self._matching(word)) + 0.5)) for word in words}


def words_of(question: str) -> list[str]:
    """Return what a question asks for: its words in order, once each, without those that carry nothing."""
    found = dict.fromkeys(word.lower() for word in _WORD.findall(question))
    telling = [word for word in found if word not in _STOP and (len(word) > 1 or word.isdigit())]
    return [word for word in telling if word not in _WEAK] or telling


def stem(word: str) -> str:
    """Cut a word to what its forms share, roughly: for marking what was found, not for finding it."""
    return re.sub(r"(ations?|ing|ed|ies|es|s|e)$", "", word) if len(word) > 4 else word


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
