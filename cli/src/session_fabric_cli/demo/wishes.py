"""What somebody wants of the demo agent beside an answer: decided here, without I/O."""

from __future__ import annotations

import re
from typing import Final, Literal

Wish = Literal["approve", "page", "selection", "think", "person"]

# Questions about how something is done are for the documentation.
_ASKS: Final = re.compile(r"\W*(how|what|why|when|where|which|who|does|is|are|can i|may i)\b", re.IGNORECASE)
_SELECTION: Final = re.compile(
    r"\b(my|the) selection\b|\bselected text\b"
    r"|\b(have|did|do) (i|you see) (just )?(select|mark|highlight)(ed)?\b",
    re.IGNORECASE,
)
_PAGE: Final = re.compile(r"\b(this|my) (page|screen|window|browser|tab|device)\b", re.IGNORECASE)
_APPROVE: Final = re.compile(
    r"\W*(please |can you |could you )?(approve|delete|remove|erase|drop)\b(?P<what>.*)", re.IGNORECASE | re.DOTALL
)
_PERSON: Final = re.compile(
    r"\W*(an? )?(human|operator|person)(\W+please)?\W*"
    r"|.*\b(talk|speak|connect|transfer|hand|want|need|get|call)\b.{0,40}\b(human|operator|person|somebody real)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_THINK: Final = re.compile(
    r"\W*(please )?(think|reflect|take your time|slowly)\b( hard| well)?( about| on| over)?(?P<what>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ENOUGH: Final = re.compile(r"\b(short(er)?|brief(er)?|enough|stop|less|that will do)\b", re.IGNORECASE)
_MOST_CHARS: Final = 80


def wish_of(text: str) -> Wish | None:
    """Return what is wanted; None for a question to be answered."""
    if _SELECTION.search(text):
        return "selection"
    if _PAGE.search(text):
        return "page"
    if _ASKS.match(text):
        return None
    if _APPROVE.fullmatch(text):
        return "approve"
    if _PERSON.fullmatch(text):
        return "person"
    return "think" if _THINK.fullmatch(text) else None


def object_of(text: str) -> str:
    """Return what is to be deleted or thought about, in a few words; empty where nothing was named."""
    match = _APPROVE.fullmatch(text) or _THINK.fullmatch(text)
    what = match["what"] if match else text
    return re.sub(r"\s*\([^)]*\)\s*$", "", what.strip(" .!?\n"))[:_MOST_CHARS]


def enough(steer: str) -> bool:
    """Say whether somebody who adds this wants less, and not more."""
    return _ENOUGH.search(steer) is not None
