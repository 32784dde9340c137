"""Which messages belong together: what follows what, which are alternatives, and which of those are shown.

A message is an alternative of another one in two cases alone: users' messages with one parent (an edit), and the
answers of several runs to one message (regenerate). All else that happens at the same time is shown side by side, in
the order of the log: nothing is hidden because two people spoke at once (docs/adr/0009).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple

from session_fabric.words.positions import Offset

_Key = tuple[str, str | None]


class Node(NamedTuple):
    """A message as far as its place goes. `answers`: the message that its run answers. `said`: by a user.

    `parent` is what its author named, `...` where he named none.
    """

    first: Offset
    id: str
    run: str | None
    answers: str | None
    said: bool
    parent: str | EllipsisType | None


class Selection(NamedTuple):
    """Somebody's wish to see a message, with all that leads to it."""

    first: Offset
    id: str


@dataclass(frozen=True, slots=True)
class Siblings:
    """The alternatives at one place, in the order of the log, and which of them was asked for; -1: there is none."""

    ids: tuple[str, ...]
    index: int


class Tree:
    """The messages of a session by what they follow; built in the order of the log, so a parent is always there."""

    def __init__(self, nodes: Iterable[Node], selections: Iterable[Selection]) -> None:
        self.parents: dict[str, str | None] = {}
        self._place: dict[str, _Key] = {}
        self._alternatives: dict[_Key, list[str]] = {}
        self._chosen: dict[_Key, str] = {}
        self._newest_of_run: dict[str, str] = {}
        self._path: dict[str, None] | None = {}
        items: list[Node | Selection] = [*nodes, *selections]
        for item in sorted(items, key=lambda item: (item.first, item.id)):
            if isinstance(item, Node):
                self._add(item)
            elif item.id in self.parents:
                self._select(item.id)

    @property
    def path(self) -> dict[str, None]:
        """The messages that are shown, in the order of the log (a set that keeps it)."""
        if self._path is None:
            self._path = {}
            for id in self.parents:
                self._show(self._path, id)
        return self._path

    def siblings(self, id: str) -> Siblings:
        place = self._place.get(id)
        if place is None:
            return Siblings((), -1)
        ids = tuple(self._alternatives[place])
        return Siblings(ids, ids.index(id))

    def _add(self, node: Node) -> None:
        kind, parent = self._parent_of(node)
        # What is no alternative to anything has a place of its own.
        place = ("", node.id) if kind == "" else (kind, parent)
        self.parents[node.id], self._place[node.id], self._chosen[place] = parent, place, node.id
        alternatives = self._alternatives.setdefault(place, [])
        alternatives.append(node.id)
        if node.run is not None:
            self._newest_of_run[node.run] = node.id
        if len(alternatives) > 1:
            self._path = None  # another one was shown, with what follows it
        elif self._path is not None:
            self._show(self._path, node.id)

    def _parent_of(self, node: Node) -> tuple[str, str | None]:
        if node.run is not None and node.run in self._newest_of_run:
            return "", self._newest_of_run[node.run]
        kind = "said" if node.said else ""
        if node.parent is None or node.parent in self.parents:
            return kind, node.parent
        if node.answers in self.parents:
            return "answers", node.answers
        return kind, next(reversed(self.path), None)

    def _select(self, id: str | None) -> None:
        while id is not None:
            self._chosen[self._place[id]] = id
            id = self.parents[id]
        self._path = None

    def _show(self, path: dict[str, None], id: str) -> None:
        """Put a message on the path, if what it follows is there and no alternative is shown."""
        parent = self.parents[id]
        if (parent is None or parent in path) and self._chosen[self._place[id]] == id:
            path[id] = None
