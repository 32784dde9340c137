"""Files that are made, and take nobody's place."""

from __future__ import annotations

import os
from pathlib import Path


def write_own(path: Path, text: str, mode: int) -> None:
    """Write a file that is not there yet; where not all of it can be written nothing is left: an empty one would be
    taken for a key. Raises `OSError`."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(number, "w") as file:
            file.write(text)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
