"""When a run's tokens leave, and how many together.

The writer is self-clocked: one publish flies at a time (a fenced subject of three nodes takes one), tokens
gather meanwhile and leave with the next. The first token leaves at once.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from session_fabric.words.events import utf16_length

WINDOW_S: Final = 0.020
MAX_BYTES: Final = 16 * 1024
MAX_QUEUED_BYTES: Final = 64 * 1024
SNAPSHOT_BYTES: Final = 8 * 1024

T = TypeVar("T")
_BROKEN = re.compile(r"[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a message's text; `at` is the position of its first character in UTF-16 code units."""

    type: str
    message: str
    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Milestone(Generic[T]):
    """Anything else, in its place between the deltas; opaque here."""

    item: T
    size: int


class _Gathering:
    """A delta that may still grow."""

    __slots__ = ("at", "end", "key", "pieces", "size")

    def __init__(self, key: tuple[str, str], at: int) -> None:
        self.key = key
        self.at = self.end = at
        self.pieces: list[str] = []
        self.size = 0


class _Tail:
    """Where a message's text ends, and the half of a surrogate pair that waits for its other half."""

    __slots__ = ("at", "half")

    def __init__(self, at: int) -> None:
        self.at = at
        self.half = ""


class Batcher(Generic[T]):
    """The queue between a run's author and its one publish in flight.

    Order is kept. Text of one message that comes without interruption coalesces; other text or a milestone
    ends the batch and makes it leave without waiting for the window. The queue takes what it is given: an
    author who sees `full` waits before he adds more, so it holds at most `max_queued_bytes` and one addition.
    """

    def __init__(
        self,
        *,
        window_s: float = WINDOW_S,
        max_bytes: int = MAX_BYTES,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        if max_bytes < 4:
            raise ValueError(f"max_bytes is {max_bytes}: a character may need 4.")
        self.window_s = window_s
        self.max_bytes = max_bytes
        self.max_queued_bytes = max_queued_bytes
        self.queued_bytes = 0  # with those in flight
        self.in_flight = False
        self._flight_bytes = 0
        self._flushed = float("-inf")
        self._queue: deque[_Gathering | Milestone[T]] = deque()
        self._tails: dict[tuple[str, str], _Tail] = {}

    @property
    def full(self) -> bool:
        return self.queued_bytes >= self.max_queued_bytes

    @property
    def empty(self) -> bool:
        """Nothing waits to be published (one publish may be in flight)."""
        return not self._queue

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not self._queue and not self.in_flight

    def begin_text(self, type: str, message: str, at: int) -> None:
        """Say where the next text of a message goes: after a takeover its text does not begin at 0."""
        self._tails[type, message] = _Tail(at)

    def add_text(self, type: str, message: str, text: str) -> str:
        """Queue text behind the message's earlier text; return it as it will be stored.

        Halves of surrogate pairs are joined across additions; one without its other half becomes U+FFFD. So
        what is returned may begin with a character whose first half came before, and lack a last half.
        """
        key = (type, message)
        tail = self._tails.get(key)
        if tail is None:
            tail = self._tails[key] = _Tail(0)
        if tail.half or not text.isascii():
            text = _whole(tail, text)
        if text:
            self._put(key, tail, text)
        return text

    def end_text(self, type: str, message: str) -> str:
        """Forget a message's position, its text being complete; return what was still held back of it."""
        tail = self._tails.pop((type, message), None)
        if tail is None or not tail.half:
            return ""
        self._put((type, message), tail, _REPLACEMENT)
        return _REPLACEMENT

    def add(self, item: T, size: int = 0) -> None:
        """Queue a milestone of `size` bytes behind what is there."""
        self._queue.append(Milestone(item, size))
        self.queued_bytes += size

    def next(self, now: float) -> Delta | Milestone[T] | None:
        """Take what must be published now, if anything; it is in flight until `done`."""
        if self.in_flight or not self._queue or self._ready_at(now) > now:
            return None
        head = self._queue.popleft()
        self.in_flight = True
        self._flight_bytes = head.size
        if isinstance(head, Milestone):
            return head
        self._flushed = now
        return Delta(*head.key, head.at, "".join(head.pieces))

    def done(self) -> None:
        """Take note that what was in flight is stored."""
        self.in_flight = False
        self.queued_bytes -= self._flight_bytes
        self._flight_bytes = 0

    def deadline(self, now: float) -> float | None:
        """Return when `next` will have something; None: not before an `add` or `done`."""
        if self.in_flight or not self._queue:
            return None
        return self._ready_at(now)

    def _ready_at(self, now: float) -> float:
        head = self._queue[0]
        if len(self._queue) > 1 or isinstance(head, Milestone) or head.size >= self.max_bytes:
            return now
        return max(now, self._flushed + self.window_s)

    def _put(self, key: tuple[str, str], tail: _Tail, text: str) -> None:
        for piece, size in _pieces(text, self.max_bytes):
            batch = self._queue[-1] if self._queue else None
            if not isinstance(batch, _Gathering) or not self._fits(batch, key, tail.at, size):
                batch = _Gathering(key, tail.at)
                self._queue.append(batch)
            batch.pieces.append(piece)
            batch.size += size
            self.queued_bytes += size
            tail.at = batch.end = tail.at + utf16_length(piece)

    def _fits(self, batch: _Gathering, key: tuple[str, str], at: int, size: int) -> bool:
        return batch.key == key and batch.end == at and batch.size + size <= self.max_bytes


def utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _whole(tail: _Tail, text: str) -> str:
    """Put the half that waited before `text` and hold back a half at its end."""
    text = tail.half + text
    tail.half = ""
    if _BROKEN.search(text) is None:
        return text
    if "\ud800" <= text[-1] <= "\udbff":
        text, tail.half = text[:-1], text[-1]
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _BROKEN.sub(_REPLACEMENT, text)


def _pieces(text: str, max_bytes: int) -> Iterator[tuple[str, int]]:
    """Cut text into pieces of at most `max_bytes` of UTF-8, between characters."""
    size = utf8_length(text)
    while size > max_bytes:
        piece = text.encode()[:max_bytes].decode("utf-8", "ignore")
        used = utf8_length(piece)
        yield piece, used
        text = text[len(piece) :]
        size -= used
    yield text, size


class Snapshots:
    """A message's text so far, and when a snapshot of it is due: every `every_bytes` of new text.

    Of a long text every eighth of it, so that snapshots of an answer cost in all about nine times its text,
    not its square.
    """

    __slots__ = ("_pieces", "_saved", "_since", "every_bytes", "length")

    def __init__(self, text: str = "", *, every_bytes: int = SNAPSHOT_BYTES) -> None:
        self.every_bytes = every_bytes
        self.length = utf16_length(text)
        self._pieces = [text]
        self._since = 0
        self._saved = utf8_length(text)

    def add(self, text: str) -> bool:
        """Take new text, as `Batcher.add_text` returned it; say whether a snapshot is due."""
        self._pieces.append(text)
        self.length += utf16_length(text)
        self._since += utf8_length(text)
        return self._since >= max(self.every_bytes, self._saved // 8)

    @property
    def unsaved(self) -> bool:
        """Say whether there is text that no snapshot has."""
        return self._since > 0

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def taken(self) -> str:
        """Take note that a snapshot is made; return its text."""
        self._saved += self._since
        self._since = 0
        return self.text
