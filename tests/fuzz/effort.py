"""How hard it is tried: the same tries each time, a minute in all; other ones for as long as `FUZZ_MINUTES` says."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from random import Random
from typing import Final

MINUTES: Final = float(os.environ.get("FUZZ_MINUTES") or 0)
LONG: Final = MINUTES > 0
# A long run's number; given again, it begins with the same tries.
SEED: Final = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(10**9))
# What each kind of fuzzing gets of a long run.
PARSERS: Final = 0.2
GUIDED: Final = 0.3
SOCKETS: Final = 0.3
DOCUMENT: Final = 0.2


def seconds(share: float) -> float:
    return MINUTES * 60 * share


def tries(name: str, short: int, share: float) -> Iterator[tuple[str, Random]]:
    """Yield tries, each with a name by which it can be had again: `short` of them, or for its share of a long run."""
    ends = time.monotonic() + seconds(share)
    number = 0
    while (time.monotonic() < ends) if LONG else (number < short):
        said = f"{name}/{SEED if LONG else 0}/{number}"
        yield said, Random(said)
        number += 1
