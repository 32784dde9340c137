"""A message that a run is writing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from session_fabric.rules.batching import Snapshots
from session_fabric.words.errors import TooLarge
from session_fabric.words.positions import Offset
from session_fabric.writer import MAX_BODY_BYTES

# Of a whole message; what stands around it in its event has the rest.
_MOST_SAID_BYTES: Final = MAX_BODY_BYTES - 4096


class Recovered(NamedTuple):
    """A message of a run as it was found by who takes the run over; `began`: the first event that named it."""

    id: str
    role: str
    text: str
    reasoning: str
    began: Offset
    open: bool


@dataclass
class OpenMessage:
    """A message that is being written."""

    id: str
    role: str
    text: Snapshots = field(default_factory=Snapshots)
    reasoning: Snapshots = field(default_factory=Snapshots)
    most_bytes: int = 0  # what it has as JSON, at most: a character may need six

    def message(self) -> dict[str, Any]:
        if self.role == "reasoning":  # AG-UI's own kind of message: what it says is what was thought
            return {"id": self.id, "role": self.role, "content": self.reasoning.text}
        message: dict[str, Any] = {"id": self.id, "role": self.role, "content": self.text.text}
        if self.reasoning.length:
            message["reasoning"] = self.reasoning.text
        return message

    def check_room(self, text: str) -> None:
        """Raise `TooLarge` for text with which the whole message could not be stored any more."""
        self.most_bytes += 6 * len(text)
        if self.most_bytes <= _MOST_SAID_BYTES:
            return
        said = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        size = len(orjson.dumps(self.message())) + len(orjson.dumps(said))
        if size > _MOST_SAID_BYTES:
            raise TooLarge(
                f"The message {self.id!r} would have {size} bytes; {_MOST_SAID_BYTES} is the most.",
                hint="Begin another: `async with run.message() as message:`.",
                limit=_MOST_SAID_BYTES,
            )
        self.most_bytes = size
