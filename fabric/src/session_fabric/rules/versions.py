"""Which versions work together: of what is stored, and of processes that meet. Pure.

What is stored has a *format*: a number that rises when a version writes what an older one would not understand. It
stands in the session streams' metadata, beside the oldest format whose readers can still use what is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

# What this version writes, and the oldest format whose readers understand that.
FORMAT: Final = 1
MIN_READER: Final = 1

_FORMAT_KEY: Final = "session-fabric-format"
_READER_KEY: Final = "session-fabric-min-reader"
_VERSION_KEY: Final = "session-fabric-version"

_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")

# `same`: of one release line. `beside`: one minor version apart, which is supported for as long as an upgrade takes.
Skew = Literal["same", "beside", "apart", "unknown"]


class Mark(NamedTuple):
    """In which format something is stored, since when: the version that marked it."""

    format: int = FORMAT
    min_reader: int = MIN_READER
    version: str = ""

    def spelled(self) -> dict[str, str]:
        """Spell it as a stream's metadata."""
        spelled = {_FORMAT_KEY: str(self.format), _READER_KEY: str(self.min_reader)}
        return {**spelled, _VERSION_KEY: self.version} if self.version else spelled


# What has no mark is from before there were marks: the first format.
FIRST: Final = Mark(1, 1, "")


def newest_mark(metadata: Sequence[Mapping[str, str]]) -> Mark:
    """Return the newest of the marks of several streams; a half that an upgrade has left is the newer one's."""
    return max((_mark(of) for of in metadata), default=FIRST)


def _mark(metadata: Mapping[str, str]) -> Mark:
    format, reader = metadata.get(_FORMAT_KEY, ""), metadata.get(_READER_KEY, "")
    if not format.isdecimal():
        return FIRST
    return Mark(int(format), int(reader) if reader.isdecimal() else int(format), metadata.get(_VERSION_KEY, ""))


def readable(mark: Mark, format: int = FORMAT) -> bool:
    """Say whether a process that knows formats up to this one may use what is stored."""
    return mark.min_reader <= format


def skew(one: str, other: str) -> Skew:
    """Say how far apart two versions are. Before 1.0 a minor version counts as much as it does after."""
    found = _NUMBERS.match(one), _NUMBERS.match(other)
    if found[0] is None or found[1] is None:
        return "unknown"
    (major, minor), (their_major, their_minor) = ((int(match[1]), int(match[2])) for match in found if match)
    if major != their_major:
        return "apart"
    distance = abs(minor - their_minor)
    return "same" if distance == 0 else "beside" if distance == 1 else "apart"


def older(one: str, other: str) -> bool:
    """Say whether one version is older than another, as far as their numbers tell."""
    return _parts(one) < _parts(other)


def _parts(version: str) -> tuple[int, ...]:
    found = _NUMBERS.match(version)
    return () if found is None else tuple(int(part or 0) for part in found.groups())
