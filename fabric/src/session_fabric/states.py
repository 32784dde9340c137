"""Shared documents: the current values of a session, beside its log; kept in the bucket `sf-state`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from session_fabric import computed, kept
from session_fabric.parts import Parts
from session_fabric.ports import Bucket, Entry
from session_fabric.records import SessionRecord
from session_fabric.rules import states as rules
from session_fabric.rules.bounds import SMALL_BYTES
from session_fabric.rules.merge import merge
from session_fabric.rules.states import State, nothing
from session_fabric.words.errors import Conflict, LimitExceeded, SessionGone, SessionNotFound
from session_fabric.words.names import escape, unescape

BUCKET: Final = "sf-state"
_TRIES: Final = 20
_BACKOFF_S: Final = 0.05

Edit = Callable[[dict[str, Any] | None], dict[str, Any] | None]


class Document:
    """One shared document of a session, a JSON object with a revision. Making it does no I/O.

    Every call raises `BrokerUnavailable` while the broker is away; a write that raises it may or may not be stored.
    """

    def __init__(self, parts: Parts, name: str) -> None:
        self._parts = parts
        self.name = rules.check_document(name)

    @property
    def _bucket(self) -> Bucket:
        return self._parts.broker.bucket(BUCKET)

    @property
    def _key(self) -> str:
        return f"{self._parts.place.key()}.{escape(self.name)}"

    # --- reading ----------------------------------------------------------------------------------

    async def get(self) -> State | None:
        """Return the document as it is now, None where there is none. Raises `SessionGone`."""
        if not await self._may_be_there():
            return None
        if self.name in rules.OWN:
            return await computed.get(self._parts, self.name)
        state = await self._newest()
        return None if state.body is None else state

    async def history(self) -> list[State]:
        """Return the newest versions, at most 8, newest first; a `body` of None is a deletion."""
        if self.name in rules.OWN or not await self._may_be_there():
            return []
        versions = await self._bucket.history(self._key)
        # An entry without a value marks where an earlier life of the session was erased.
        return [rules.read(self.name, e.revision, e.value) for e in reversed(versions) if e.value is not None]

    async def watch(self) -> AsyncGenerator[State, None]:
        """Yield the document as it is, if it is there, then each change, for ever; a `body` of None is a deletion.

        Makes the session where there is none. After a lost broker it yields what has changed meanwhile. Who reads
        slowly misses versions in between, never the newest one. Raises `SessionGone`. Close it (`aclosing`) to end.
        """
        if self.name in rules.OWN:
            states = computed.watch(self._parts, self.name)
        else:
            states = _watch(self._parts, self._key, self._as_list)
        async with aclosing(states):
            async for state in states:
                yield state

    async def _may_be_there(self) -> bool:
        """Say whether there is a session; raise what cannot be read of one."""
        try:
            await self._parts.directory.load(self._parts.place)
        except SessionNotFound:
            return False
        return True

    async def _as_list(self) -> list[Entry]:
        entry = await self._bucket.get(self._key)
        return [] if entry is None else [entry]

    async def _newest(self) -> State:
        entry = await self._bucket.get(self._key)
        return nothing(self.name) if entry is None else rules.read(self.name, entry.revision, entry.value)

    # --- writing ----------------------------------------------------------------------------------

    async def put(self, body: Mapping[str, Any], revision: int | None = None) -> State:
        """Write the whole document; return it as stored.

        `revision`: write only if this is the newest one, 0 only if there is no document; whatever is there when not
        given. Raises `Conflict` (`error.current` is what is there), `InvalidRequest` (no JSON object), `TooLarge`,
        `Forbidden` (a `_` document), `LimitExceeded` (too many documents, or too large together),
        `SessionGone`, `SessionClosed`.
        """
        rules.check_writable(self.name)
        checked = rules.check_body(self.name, body)
        return await self._change(lambda _: checked, revision, over_all=True)

    async def patch(self, patch: Mapping[str, Any], revision: int | None = None) -> State:
        """Change the document by a JSON Merge Patch (RFC 7396): null removes a field. Makes it where there is none.

        Without a `revision` it is tried again on what others have written meanwhile, so that nobody's change is
        lost. Raises what `put` raises.
        """
        rules.check_writable(self.name)
        checked = rules.check_body(self.name, patch, "patch")
        return await self._change(lambda was: rules.check_body(self.name, merge(was or {}, checked)), revision)

    async def delete(self, revision: int | None = None) -> State:
        """Remove the document; what it was stays in its history. Return the deletion, or that nothing was there.

        Raises `Conflict` when a `revision` is given that is not the newest one, `Forbidden`, `SessionNotFound`.
        """
        rules.check_writable(self.name)
        await self._parts.directory.load(self._parts.place)
        return await self._change(lambda _: None, revision)

    async def _change(self, edit: Edit, revision: int | None, *, over_all: bool = False) -> State:
        """Write what `edit` makes of the body, by compare-and-set; `over_all`: whatever is there by then."""
        rules.check_revision(revision)
        record = await self._parts.open()
        bucket, by = self._bucket, self._parts.identity.participant
        for attempt in range(_TRIES):
            was = await self._newest()
            if revision not in (None, was.revision) and (revision or was.body is not None):
                raise _conflict(was, revision)
            body = edit(was.body)
            if was.body is None and body is None:
                return nothing(self.name)
            if was.body is None:
                await self._make_room()
            ts = time.time_ns() // 1_000_000
            data = rules.spell(body, by, ts)
            if len(data) > SMALL_BYTES:
                await self._parts.common.documents.check(self._key, len(data))
            else:
                self._parts.common.documents.freed(self._key)
            try:
                if over_all and revision is None and was.body is not None:
                    new = await bucket.put(self._key, data)
                else:
                    new = await bucket.swap(self._key, data, revision=was.revision)
            except Conflict:
                if attempt:
                    await asyncio.sleep(random.uniform(0, _BACKOFF_S))
                continue
            await self._check_alive(record, new)
            return State(self.name, new, body, by, ts)
        raise _conflict(await self._newest(), revision)

    async def _check_alive(self, record: SessionRecord, revision: int) -> None:
        """Take back what was written into a session that was deleted meanwhile. Raises `SessionGone`."""
        try:
            await kept.lives_on(self._parts, record)
        except SessionGone:
            with contextlib.suppress(Conflict):
                await self._bucket.delete(self._key, revision=revision)
            raise

    async def _make_room(self) -> None:
        """See that one more document may be; the oldest deletion goes with its history when there are many names.

        Those who make documents at the same moment may come out a few above the limit.
        """
        states = await _entries(self._parts)
        live = sum(state.body is not None for state, _ in states)
        if live >= rules.MOST_DOCUMENTS:
            raise LimitExceeded(
                f"Session {self._parts.place.session!r} has {live} documents; {rules.MOST_DOCUMENTS} is the most.",
                hint="Delete one, or put more into one.",
                limit=rules.MOST_DOCUMENTS,
            )
        dead = [(state, key) for state, key in states if state.body is None and key != self._key]
        for state, key in dead[: max(0, len(states) + 1 - rules.MOST_NAMES)]:
            with contextlib.suppress(Conflict):  # somebody makes it anew just now
                await self._bucket.delete(key, revision=state.revision)


async def documents(parts: Parts) -> list[State]:
    """Return the session's documents; see `Session.documents`."""
    await parts.directory.load(parts.place)
    live = [state for state, _ in await _entries(parts) if state.body is not None]
    return sorted(live, key=lambda state: state.document)


async def watch(parts: Parts) -> AsyncGenerator[State, None]:
    """Yield every document, then each change; see `Session.watch_documents`."""
    prefix = parts.place.key()
    async with aclosing(_watch(parts, prefix, lambda: parts.broker.bucket(BUCKET).entries(prefix))) as states:
        async for state in states:
            yield state


async def _watch(parts: Parts, prefix: str, read: Callable[[], Awaitable[list[Entry]]]) -> AsyncGenerator[State, None]:
    record, _ = await parts.persist(parts.create)
    shown: set[str] = set()
    async with aclosing(kept.changes(parts, record, BUCKET, prefix, read)) as batches:
        async for entries in batches:
            for entry in entries:
                state = _state(parts, entry)
                if state is None or (state.body is None and state.document not in shown):
                    continue  # deleted before anybody was told of it
                (shown.discard if state.body is None else shown.add)(state.document)
                yield state


async def _entries(parts: Parts) -> list[tuple[State, str]]:
    """Return the newest version of every document, those deleted too, and its key; the oldest change first."""
    entries = await parts.broker.bucket(BUCKET).entries(parts.place.key())
    found = [(_state(parts, entry), entry.key) for entry in entries]
    return [(state, key) for state, key in found if state is not None]


def _state(parts: Parts, entry: Entry) -> State | None:
    """Read an entry; None for what is under the session's key and no document's name."""
    token = entry.key[len(parts.place.key()) + 1 :]
    return None if not token or "." in token else rules.read(unescape(token), entry.revision, entry.value)


def _conflict(was: State, revision: int | None) -> Conflict:
    there = was.body is not None
    what = f"is at revision {was.revision}" if there else "is not there"
    return Conflict(
        f"Document {was.document!r} {what}, so it cannot be written at {'any' if revision is None else revision}.",
        hint="Decide again by what is there now.",
        current=was if there else None,
        document=was.document,
        revision=was.revision if there else 0,
    )
