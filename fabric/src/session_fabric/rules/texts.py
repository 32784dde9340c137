"""A text that arrives in pieces: out of order, twice, or not at all."""

from __future__ import annotations

from typing import Final

from session_fabric.words.events import utf16_length
from session_fabric.words.positions import Offset

# Pieces kept back for want of what is before them. A snapshot comes every 8 KiB of text, so more than this
# will never join; what is dropped here comes again with the snapshot or the completion.
MAX_KEPT: Final = 4096


class Text:
    """Collect a text by positions, which count UTF-16 code units; adding a piece that fits costs O(1).

    Every method may be called again with the same arguments and changes nothing the second time.
    """

    __slots__ = ("_kept", "_loose", "_pieces", "done", "length")

    def __init__(self) -> None:
        self.length = 0
        self.done = False
        self._pieces: list[str] = []
        self._kept: dict[int, str] = {}
        self._loose: dict[Offset, str] = {}

    @property
    def value(self) -> str:
        """The text so far: everything up to the first hole."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        text = self._pieces[0] if self._pieces else ""
        return text + "".join(self._loose[offset] for offset in sorted(self._loose))

    def put(self, at: int, piece: str) -> None:
        """Add a piece at its position: cut where it overlaps, kept back where it leaves a hole."""
        if self.done:
            return
        if at > self.length:
            if len(self._kept) < MAX_KEPT and len(piece) > len(self._kept.get(at, "")):
                self._kept[at] = piece
            return
        self._join(at, piece)
        if self._kept:
            self._take_kept()

    def put_loose(self, offset: Offset, piece: str) -> None:
        """Add a piece whose writer gave no position: behind the rest, in the order of the log."""
        if not self.done:
            self._loose[offset] = piece

    def cover(self, text: str) -> None:
        """Replace the text by a snapshot of it, if that knows more."""
        length = utf16_length(text)
        if self.done or length <= self.length:
            return
        self._pieces = [text]
        self.length = length
        self._take_kept()

    def finish(self, text: str) -> None:
        """Replace the text by the whole of it; later pieces change nothing."""
        self._pieces = [text]
        self.length = utf16_length(text)
        self.done = True
        self._kept.clear()
        self._loose.clear()

    def _join(self, at: int, piece: str) -> None:
        new = after_utf16(piece, self.length - at)
        if new:
            self._pieces.append(new)
            self.length += utf16_length(new)

    def _take_kept(self) -> None:
        for at in sorted(self._kept):
            if at > self.length:
                break
            self._join(at, self._kept.pop(at))


def after_utf16(text: str, units: int) -> str:
    """Return what follows the first `units` UTF-16 code units of a text."""
    if units <= 0:
        return text
    if text.isascii():
        return text[units:]
    return text.encode("utf-16-le", "surrogatepass")[2 * units :].decode("utf-16-le", "surrogatepass")
