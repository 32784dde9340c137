"""Which runs have not ended: those that a process holds, and those that wait for people or for another process."""

from __future__ import annotations

from collections.abc import Sequence

from session_fabric.words.events import RUN_OVER


class Unended:
    """The runs of one session, of what is stored of them (kind `own`) in order."""

    def __init__(self) -> None:
        self._actors: dict[str, str] = {}

    def take(self, name: str, type: str, actor: str) -> None:
        if "/" in name:
            return  # a floor, or what came of a request
        if type in RUN_OVER:
            self._actors.pop(name, None)
        else:
            self._actors.setdefault(name, actor)

    @property
    def runs(self) -> Sequence[tuple[str, str]]:
        """Each with who began it, those first that began first."""
        return tuple(self._actors.items())
