"""What the demo agent says: decided here, without I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from session_fabric_cli.demo.search import Hit, stem, words_of
from session_fabric_cli.demo.sections import Section, blocks, plain

_GREETING: Final = re.compile(
    r"\W*(hi|hello|hey|hallo|hola|yo|good (morning|afternoon|evening|day)|who are you|what can you do)\b(.{0,24})",
    re.IGNORECASE | re.DOTALL,
)
_THANKS: Final = re.compile(r"(\W*\b(thanks?|thank you|thx|great|cool|nice|good|bye|ok(ay)?)\b)+\W*", re.IGNORECASE)
_MORE: Final = re.compile(r"\W*(more|go on|continue|tell me more|anything else|what else|and\?*)\W*(please)?\W*", re.I)
_FOLLOW_UP: Final = re.compile(
    r"\W*(and|but|so|what about|how about|why|how so|what if|is (it|that)|does (it|that))\b", re.I
)
_LINK: Final = re.compile(r"\]\(([^)\s]+#[^)\s]*)\)")

# Below this share of the asked-for words, a section is about something else: one word of two is not enough where the
# other is on no page at all.
_ENOUGH: Final = 0.5
_EXCERPT_CHARS: Final = 900
_SECOND_CHARS: Final = 450

WELCOME: Final = (
    "Hello! I answer questions about Session Fabric from its own documentation: I search the pages, and quote "
    "what I find with its source.\n\nTry:\n\n"
    "- What is Session Fabric?\n"
    "- How do I cancel a run?\n"
    "- What happens when an event is sent twice?\n"
    "- What does close code 4408 mean?\n\n"
    "While I write, reload this page, open a second tab, add something or press stop. I can do more than answer: "
    "ask me to delete something (I ask you first), what I can see of this page, what you have marked, to think "
    "about something, or for a person."
)
THANKS: Final = "You are welcome. Ask me anything else about Session Fabric."


@dataclass(frozen=True)
class Turn:
    """What was said before: `role` is "user" or "assistant"."""

    role: str
    text: str


@dataclass(frozen=True)
class Plan:
    """What to do about a question: say something at once, or search for `words` and leave out what was shown."""

    kind: Literal["welcome", "thanks", "search"]
    words: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()


def plan(question: str, before: Sequence[Turn]) -> Plan:
    """Decide how to answer; `before` are the turns before the question, oldest first."""
    text = question.strip()
    words = words_of(text)
    greeting = _GREETING.fullmatch(text)
    if greeting and len(words_of(greeting[3])) <= 1:
        return Plan("welcome")
    if _THANKS.fullmatch(text):
        return Plan("thanks")
    asked = [turn for turn in before if turn.role == "user" and words_of(turn.text)]
    if _MORE.fullmatch(text) and asked:
        start = max(n for n, turn in enumerate(before) if turn is asked[-1])
        shown = {link for turn in before[start:] for link in _LINK.findall(turn.text)}
        return Plan("search", tuple(words_of(asked[-1].text)), frozenset(shown))
    if asked and (_FOLLOW_UP.match(text) or not words) and len(words) <= 3:
        # "And over SSE?" stands on the question before it; its own words come first.
        words = list(dict.fromkeys([*words, *words_of(asked[-1].text)]))
    return Plan("search", tuple(words)) if words else Plan("welcome")


def useful(hits: Sequence[Hit], words: Collection[str]) -> list[Hit]:
    """Return the hits that are about what was asked, best first: at most three."""
    enough = _ENOUGH if len(words) > 1 else 0.99
    kept = [hit for hit in hits if hit.coverage >= enough]
    return [hit for hit in kept if hit.score * hit.coverage >= 0.4 * kept[0].score * kept[0].coverage][:3]


def answer(words: Mapping[str, float], hits: Sequence[Hit], *, more: bool = False) -> str:
    """Write the answer as Markdown: excerpts, then where they come from. `words` say how much they tell."""
    found = useful(hits, words)
    if not found:
        return nothing_found(words, hits, more=more)
    parts = [f"**{found[0].section.title}**\n\n{excerpt(found[0].section, words, _EXCERPT_CHARS)}"]
    for hit in found[1:2]:
        parts.append(f"See also **{hit.section.title}**:\n\n{excerpt(hit.section, words, _SECOND_CHARS)}")
    sources = "\n".join(f"- [{hit.section.title}]({hit.section.link})" for hit in found)
    return "\n\n".join([*parts, f"Sources:\n\n{sources}"])


def nothing_found(words: Collection[str], hits: Sequence[Hit], *, more: bool) -> str:
    wanted = ", ".join(f"“{word}”" for word in list(words)[:6])
    if more:
        return f"That is all that the documentation says about {wanted}."
    text = f"I found nothing about {wanted} in the documentation of Session Fabric, and I know nothing else."
    if hits:
        near = "\n".join(f"- [{hit.section.title}]({hit.section.link})" for hit in hits[:3])
        text += f"\n\nThe nearest pages are:\n\n{near}"
    return text


def excerpt(section: Section, words: Mapping[str, float], max_chars: int) -> str:
    """Return the blocks of a section that say most about the words, in the order of the page."""
    stems = {stem(word): weight for word, weight in words.items()}
    parts = blocks(section.text)
    scores = [0.0 if _heads_table(part) else _told(part, stems) / (1 + len(part) / 600) for part in parts]
    if parts and not parts[0].startswith(("|", "```")):
        scores[0] = max(scores[0], 0.6 * max(scores))  # a section's first words say what it is about
    chosen: list[int] = []
    for n in sorted(range(len(parts)), key=lambda n: (-scores[n], n)):
        used = sum(len(parts[i]) for i in chosen)
        if scores[n] > 0.5 * max(scores) and (not chosen or used + len(parts[n]) <= max_chars):
            chosen.append(n)
    return _joined(parts, sorted(chosen or [0])) if parts else ""


def _told(part: str, stems: Mapping[str, float]) -> float:
    return sum(weight for known, weight in stems.items() if known in part.lower())


def _joined(parts: Sequence[str], chosen: Sequence[int]) -> str:
    """Join blocks; rows of a table get their heading row again, and stay one table."""
    lines: list[str] = []
    table: int | None = None
    for n in chosen:
        head = _table_head(parts, n)
        if head is None:
            lines += ["", parts[n]] if not (_item(parts[n]) and lines and _item(lines[-1])) else [parts[n]]
        else:
            if head != table:
                lines += ["", parts[head]]
            if n != head:
                lines.append(parts[n])
        table = head
    return "\n".join(lines).strip()


def _table_head(parts: Sequence[str], n: int) -> int | None:
    if not parts[n].startswith("|"):
        return None
    while n > 0 and not _heads_table(parts[n]):
        n -= 1
    return n


def _heads_table(block: str) -> bool:
    return block.startswith("|") and "\n|" in block


def _item(block: str) -> bool:
    return block.startswith(("- ", "* "))


def summary(hits: Sequence[Hit]) -> list[dict[str, object]]:
    """What the search tool returns: enough to choose from, and for a model to answer with."""
    return [
        {
            "title": hit.section.title,
            "source": hit.section.link,
            "score": hit.score,
            "preview": plain(hit.section.text[:160].replace("\n", " ")),
        }
        for hit in hits
    ]


def spoken(text: str) -> list[str]:
    """Cut a text into the pieces in which it is streamed: words, each with the space behind it."""
    return re.findall(r"\s*\S+\s*?(?=\s\S|\s*$)|\s+", text)
