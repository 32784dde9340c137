"""Offsets: where an event stands in its session."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from session_fabric.words.errors import InvalidOffset

_OFFSET = re.compile(r"([0-9]{16})_([0-9]{16})")


class Offset(NamedTuple):
    """`<segment>_<sequence>`, sixteen digits each, so that offsets sort as text; opaque to clients.

    The segment names one stretch of one life of a session (microseconds since 1970 of its
    beginning); the sequence is the stream's.
    """

    segment: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.segment:016d}_{self.sequence:016d}"

    @classmethod
    def parse(cls, text: object) -> Offset:
        """Read an offset, or raise `InvalidOffset`."""
        match = _OFFSET.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidOffset(
                f"{text!r:.60} is not an offset.",
                hint="Use an offset that the fabric gave you.",
            )
        return cls(int(match.group(1)), int(match.group(2)))


ZERO = Offset(0, 0)

After = Offset | Literal["start", "tail"]


def parse_after(text: object) -> After:
    """Read where to begin: an offset, `start`, `tail`."""
    if text == "start" or text == str(ZERO):
        return "start"
    if text == "tail":
        return "tail"
    try:
        return Offset.parse(text)
    except InvalidOffset as error:
        raise InvalidOffset(error.message, hint='Use an offset that the fabric gave you, "start" or "tail".') from error
