"""All parsers that are fuzzed."""

from __future__ import annotations

from typing import Final

from tests.fuzz import asked, chosen, stored, streamed, tokens
from tests.fuzz.target import Target

TARGETS: Final[tuple[Target, ...]] = (
    *asked.TARGETS,
    *tokens.TARGETS,
    *stored.TARGETS,
    *chosen.TARGETS,
    *streamed.TARGETS,
)
