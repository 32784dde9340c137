"""What agents keep of a session between their steps, beside its log: values by name, in the bucket `sf-checkpoints`.

A value larger than one entry is stored in pieces first; its entry then names them, so that it is there whole or not.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, TypeVar

from session_fabric import kept
from session_fabric.parts import Parts
from session_fabric.ports import Bucket, Entry
from session_fabric.records import SessionRecord
from session_fabric.words.arguments import check_mapping, check_text, check_whole
from session_fabric.words.errors import Conflict, InvalidRequest, SessionGone, TooLarge
from session_fabric.words.names import escape, new_id, unescape

BUCKET: Final = "sf-checkpoints"
# Half of what nats-server takes in one message by default.
PIECE_BYTES: Final = 512 * 1024
MOST_BYTES: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 32
_TRIES: Final = 3
_WHOLE, _PIECES = b"\0", b"\1"
_NOT_WRITTEN: Final = 0  # in place of a revision

Name = tuple[str, ...]
T = TypeVar("T")


class Kept(NamedTuple):
    """A value, and the name that it is kept under."""

    name: Name
    value: bytes


class Checkpoints:
    """A session's values for its agents, by names of several words. Making it does no I/O.

    They are no part of the log, of forks or of exports, and go with the session. Every call raises
    `BrokerUnavailable` while the broker is away; a write that raises it may or may not be stored: write again.
    """

    def __init__(self, parts: Parts, under: Name = ()) -> None:
        self._parts = parts
        self._under = under

    def under(self, *prefix: str) -> Checkpoints:
        """Return those values alone whose names begin with these words, by the rest of their names."""
        return Checkpoints(self._parts, (*self._under, *prefix))

    @property
    def _bucket(self) -> Bucket:
        return self._parts.broker.bucket(BUCKET)

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, *name: str) -> bytes | None:
        """Return a value, None where there is none."""
        for _ in range(_TRIES):
            entry = await self._bucket.get(self._key("v", name))
            if entry is None or entry.value is None:
                return None
            value = await self._whole(name, entry.value)
            if value is not None:
                return value
        return None  # written anew again and again while it was read

    async def entries(self, *prefix: str) -> list[Kept]:
        """Return all values whose names begin with these words and have more, the oldest write first."""
        return await self._all(await self._bucket.entries(self._key("v", prefix)))

    async def newest(self, *prefix: str, limit: int) -> list[Kept]:
        """Return the `limit` values under these words that were written last, the newest write first."""
        check_whole(limit, "limit", 1, 1_000_000)
        found = await self._bucket.latest(self._key("v", prefix), limit=limit)
        return await self._all([dated.entry for dated in found])

    async def _all(self, entries: Sequence[Entry]) -> list[Kept]:
        found: list[Kept] = []
        for entry in entries:
            name = self._name(entry.key)
            value = None if entry.value is None else await self._whole(name, entry.value)
            if value is not None:
                found.append(Kept(name, value))
        return found

    async def _whole(self, name: Name, stored: bytes) -> bytes | None:
        """Return the value of an entry; None where its pieces have gone meanwhile."""
        if stored[:1] == _WHOLE:
            return stored[1:]
        keys = self._pieces_of(name, stored)
        pieces = await _some_at_once([partial(self._bucket.get, key) for key in keys])
        found = [piece.value for piece in pieces if piece is not None and piece.value is not None]
        return b"".join(found) if len(found) == len(keys) else None

    # --- writing ----------------------------------------------------------------------------------

    async def put(self, values: Mapping[Name, bytes]) -> None:
        """Write values over what is there; each at most 64 MiB. All are stored when it returns, in no order.

        Makes the session where there is none. Raises `TooLarge`, `SessionGone`.
        """
        await self._write(values, lambda key, value: self._bucket.put(key, value))

    async def add(self, values: Mapping[Name, bytes]) -> None:
        """Write those values whose names have none yet; leave the others as they are. Otherwise as `put`."""

        async def add(key: str, value: bytes) -> int:
            with suppress(Conflict):
                return await self._bucket.swap(key, value, revision=0)
            return _NOT_WRITTEN

        await self._write(values, add)

    async def _write(self, values: Mapping[Name, bytes], write: Callable[[str, bytes], Awaitable[int]]) -> None:
        for name, value in check_mapping(values, "values").items():
            _check(name, value)
            if len(value) > MOST_BYTES:
                raise TooLarge(
                    f"The value {'/'.join(name)[:100]!r} has {len(value)} bytes; {MOST_BYTES} is the most.",
                    hint="Keep large things elsewhere, and a link to them here.",
                    limit=MOST_BYTES,
                )
        record, _ = await self._parts.create()
        await _some_at_once([partial(self._one, name, value, write) for name, value in values.items()])
        await self._check_alive(record, values)

    async def _one(self, name: Name, value: bytes, write: Callable[[str, bytes], Awaitable[int]]) -> None:
        key = self._key("v", name)
        if len(value) <= PIECE_BYTES:
            await write(key, _WHOLE + value)
            return
        was = await self._bucket.get(key)
        stored = _PIECES + f"{new_id()} {-(-len(value) // PIECE_BYTES)}".encode()
        pieces = self._pieces_of(name, stored)
        for number, piece in enumerate(pieces):
            await self._bucket.put(piece, value[number * PIECE_BYTES : (number + 1) * PIECE_BYTES])
        before = b"" if was is None or was.value is None else was.value
        for piece in self._pieces_of(name, before) if await write(key, stored) else pieces:
            await self._bucket.delete(piece)

    async def _check_alive(self, record: SessionRecord, values: Iterable[Name]) -> None:
        """Take back what was written into a session that was deleted meanwhile. Raises `SessionGone`."""
        try:
            await kept.lives_on(self._parts, record)
        except SessionGone:
            await self.remove(values)
            raise

    async def remove(self, names: Iterable[Name]) -> None:
        """Remove values; those that are not there are left out. Cut short, call it again."""
        await _some_at_once([partial(self._remove, name) for name in names])

    async def _remove(self, name: Name) -> None:
        key = self._key("v", name)
        entry = await self._bucket.get(key)
        if entry is not None and entry.value is not None:
            for each in [*self._pieces_of(name, entry.value), key]:
                await self._bucket.delete(each)

    async def clear(self, *prefix: str) -> None:
        """Remove all values whose names begin with these words and have more."""
        await self.remove([self._name(entry.key) for entry in await self._bucket.entries(self._key("v", prefix))])

    # --- keys -------------------------------------------------------------------------------------

    def _key(self, kind: str, name: Sequence[str]) -> str:
        # Words may be empty, and tokens may not.
        checked = (check_text(word, "A word of the name") for word in (*self._under, *name))
        words = (f"-{escape(word)}" if word else "-" for word in checked)
        return ".".join([self._parts.place.key(), kind, *words])

    def _name(self, key: str) -> Name:
        tokens = key[len(self._parts.place.key()) + 1 :].split(".")[1 + len(self._under) :]
        return tuple(unescape(token[1:]) for token in tokens)

    def _pieces(self, name: Name) -> str:
        return f"{self._parts.place.key()}.p.{hashlib.sha256(self._key('v', name).encode()).hexdigest()[:32]}"

    def _pieces_of(self, name: Name, stored: bytes) -> list[str]:
        """Return the keys of an entry's pieces; none where it has the value itself, or there is none."""
        if stored[:1] != _PIECES:
            return []
        write, count = stored[1:].decode().split(" ")
        return [f"{self._pieces(name)}.{write}.{number}" for number in range(int(count))]


def _check(name: object, value: object) -> None:
    if isinstance(name, str) or not isinstance(value, bytes):
        shown = f"{name!r:.40}: {type(value).__name__}"
        raise InvalidRequest(f"A value is {shown}.", hint='Use bytes by words: {("plan", "1"): b"…"}.')


async def _some_at_once(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make calls, not too many at a time; return what they return, in order. Raises what the first that fails does."""
    found: list[T] = []
    for start in range(0, len(calls), _AT_ONCE):
        found += await asyncio.gather(*(call() for call in calls[start : start + _AT_ONCE]))
    return found
