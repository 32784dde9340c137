"""What a run writes, on its way to the log: one publish in flight, fenced by the run's claim."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from session_fabric.history import SNAPSHOT_FROM
from session_fabric.open_message import OpenMessage, Recovered
from session_fabric.ports import Guard, Log, Stretch, Wanted
from session_fabric.rules.batching import Batcher, Delta, Milestone
from session_fabric.words.closing import Closed
from session_fabric.words.errors import (
    BrokerUnavailable,
    Conflict,
    FabricError,
    InvalidEvent,
    RunClosed,
    RunExists,
    RunFenced,
    SessionGone,
)
from session_fabric.words.events import (
    MESSAGE_COMPLETED,
    MESSAGE_SNAPSHOT,
    REASONING_CONTENT,
    RUN_OVER,
    TEXT_CONTENT,
    DeltaRef,
    Draft,
)
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import NO_NAME, Kind
from session_fabric.writer import Identity, Parsed, parse_body

# Deltas are replaced by what completes them; those of a run that never ends go by themselves.
DELTA_TTL_S: Final = 3600
# What waits in an open message is in a snapshot long before its deltas expire.
SNAPSHOT_S: Final = 600.0
# Within the broker's dedupe window of 120 s a retry with the same id is known for one.
GIVE_UP_S: Final = 90.0
_TRY_S: Final = 5.0


@dataclass
class _Item:
    """An event between the author and the log."""

    body: Parsed
    kind: Kind
    name: str
    snapshot: bool = False
    last_snapshot: bool = False
    starts: str | None = None  # the message that begins here
    covers: str | None = None  # the message whose text this holds
    moves: bool = False  # the run's fence: what follows is published under this event


class RunLog:
    """Queues what a run writes, in order, and publishes it; bounded by `Batcher.max_queued_bytes`."""

    def __init__(self, log_: Log, identity: Identity, to: Stretch, run: str, window_s: float) -> None:
        self.to = to
        self.run = run
        self.fence: Guard | None = None
        self.ending = False
        self._left = False
        self.begun: list[str] = []  # messages, in order
        self.on_begin: Callable[[str], None] | None = None
        self._log = log_
        self._identity = identity
        self._nonce = new_id()[:12]
        self._count = 0
        self._batcher: Batcher[_Item] = Batcher(window_s=window_s)
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._flying: Draft | None = None
        self._starting: str | None = None
        self._moving = False
        self._began: dict[str, Offset] = {}
        self._open: dict[str, OpenMessage] = {}
        self._acked = 0
        self._claimed_at = 0.0
        self.first_text_after_s: float | None = None
        self._snapshot_from = 0

    @property
    def queued_bytes(self) -> int:
        return self._batcher.queued_bytes

    @property
    def idle(self) -> bool:
        """Everything written is stored."""
        return self._batcher.idle

    # --- its claim and its end ----------------------------------------------------------------------

    async def claim(self, body: Mapping[str, Any]) -> None:
        """Write the claim if nobody has claimed the run. Raises `RunExists`, `RunClosed`, `BrokerUnavailable`."""
        draft = self._draft(parse_body(body), "own", self.run, f"{self._nonce}.claim")
        try:
            ack = await self._log.publish(self.to, draft, guard=Guard("own", self.run, 0))
        except Conflict as conflict:
            raise await self._why_fenced(RunExists) from conflict
        self._claimed(ack.sequence)

    async def take_over(self, body: Mapping[str, Any], after: int) -> None:
        """Write the claim of a run over its newest event, at `after`; the writer before is refused from then on.

        Raises `RunFenced` when somebody else was first, `RunClosed`, `BrokerUnavailable`.
        """
        draft = self._draft(parse_body(body), "own", self.run, f"{self._nonce}.claim")
        try:
            ack = await self._log.publish(self.to, draft, guard=Guard("own", self.run, after))
        except Conflict as conflict:
            raise await self._why_fenced(RunFenced) from conflict
        self._claimed(ack.sequence)

    def _claimed(self, sequence: int) -> None:
        self.fence = Guard("own", self.run, sequence)
        self._claimed_at = time.monotonic()

    async def restore(self, messages: Sequence[Recovered]) -> None:
        """Go on with the open messages of a run that was taken over: their next text stands behind what there is."""
        for message in messages:
            self.begun.append(message.id)
            self._began[message.id] = message.began
            if not message.open:
                continue
            opened = self._open[message.id] = OpenMessage(message.id, message.role)
            opened.most_bytes = 6 * (len(message.text) + len(message.reasoning))
            for type, part, text in (
                (TEXT_CONTENT, opened.text, message.text),
                (REASONING_CONTENT, opened.reasoning, message.reasoning),
            ):
                part.add(text)
                self._batcher.begin_text(type, message.id, part.length)
        self._snapshot_all()

    async def move(self, body: Mapping[str, Any]) -> None:
        """Write an event of the run's life (suspended, resumed) in its place between the others."""
        self._snapshot_all()
        await self._put(_Item(parse_body(body), "own", self.run, moves=True))

    async def end(self, body: Mapping[str, Any]) -> int:
        """Write the run's end over its claim: what anybody writes under the claim from now on is refused."""
        return await self._store(self._draft(parse_body(body), "own", self.run, f"{self._nonce}.end"))

    # --- what is written ----------------------------------------------------------------------------

    async def begin(self, id: str, role: str, start: Mapping[str, Any] | None = None) -> None:
        """Open a message. Its `TEXT_MESSAGE_START` is stored beside the deltas and goes with them."""
        if id not in self._open:
            body = parse_body(start or {"type": "TEXT_MESSAGE_START", "messageId": id, "role": role})
            await self._room_to_write()
            if id not in self._open:  # begun by nobody meanwhile
                self._open[id] = OpenMessage(id, role)
                self.begun.append(id)
                if self.on_begin is not None:
                    self.on_begin(id)
                self._add(_Item(body, "tok", self.run, starts=id))
                return
        if role != "reasoning":  # what was thought and what is said under one id
            self._open[id].role = role

    async def delta(self, type: str, message: str, text: str) -> None:
        self._check(self.ending)
        if not isinstance(text, str):
            raise InvalidEvent(f"{text!r:.60} is no text.", hint="Write str; `bytes.decode()` makes it of bytes.")
        if not text:
            return
        await self._wait_for_room()
        self._check(self.ending)  # it may have ended meanwhile
        opened = self._open.get(message)
        if opened is not None:
            opened.check_room(text)
        stored = self._batcher.add_text(type, message, text)
        if opened is not None:
            part = opened.reasoning if type == REASONING_CONTENT else opened.text
            if part.add(stored):
                self._snapshot_all()
        self._more.set()

    async def complete(self, id: str, end: Mapping[str, Any] | None = None) -> None:
        """Close a message: the event with its whole text replaces its deltas. Cancelled, it is open as before."""
        if id not in self._open:
            return
        ended = parse_body(end or {"type": "TEXT_MESSAGE_END", "messageId": id})
        await self._room_to_write()
        opened = self._open.pop(id, None)
        if opened is None:
            return  # by somebody else meanwhile
        for type, part in ((TEXT_CONTENT, opened.text), (REASONING_CONTENT, opened.reasoning)):
            part.add(self._batcher.end_text(type, id))
        whole = parse_body({"type": MESSAGE_COMPLETED, "message": opened.message()})
        self._add(_Item(ended, "tok", self.run), _Item(whole, "ev", NO_NAME, covers=id))

    async def event(self, body: Mapping[str, Any] | Parsed, kind: Kind = "ev", name: str = NO_NAME) -> None:
        await self._put(_Item(body if isinstance(body, Parsed) else parse_body(body), kind, name))

    async def events(self, *bodies: Mapping[str, Any]) -> None:
        """Write several events one behind the other: all, or cancelled none of them."""
        await self._put(*[_Item(parse_body(body), "ev", NO_NAME) for body in bodies])

    async def close_messages(self, whole: bool) -> None:
        """Complete the open messages; of an answer that was cut off (`whole` false) leave the text so far."""
        if whole:
            for id in list(self._open):
                await self.complete(id)
        else:
            self._snapshot_all()
            self._open.clear()
            self._more.set()

    def let_go(self) -> None:
        """Leave the open messages without a last snapshot: what of them cannot be stored is lost."""
        self._open.clear()

    async def abandon(self, messages: Collection[str]) -> None:
        """Leave open messages as they are: their text so far is kept, and nothing completes them."""
        self._check(self.ending)
        self._snapshot_all()
        for id in messages:
            self._open.pop(id, None)
        self._more.set()

    def is_open(self, message: str) -> bool:
        return message in self._open

    def text_of(self, message: str) -> str:
        """Return the text so far of an open message."""
        opened = self._open.get(message)
        return "" if opened is None else opened.text.text

    async def stored(self) -> None:
        """Wait until everything that was written is stored, behind `finish`. Raises `RunClosed`: it will not be."""
        while not self.idle:
            self._check(self._left)
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """Let `pump` end when everything is stored."""
        self.ending = True
        self._more.set()

    def leave(self) -> None:
        """Nobody stores any more what is queued: whoever waits for it is told."""
        self.ending = self._left = True
        self._room.set()

    def _snapshot_all(self) -> None:
        """Queue a snapshot of every open message, so that no delta before the last of them is needed any more."""
        texts = [m for m in self._open.values() if m.text.length or m.reasoning.length]
        for opened in texts:
            opened.text.taken()
            opened.reasoning.taken()
            message = opened.message()
            at = opened.reasoning.length if opened.role == "reasoning" else opened.text.length
            body = parse_body({"type": MESSAGE_SNAPSHOT, "message": message, "at": at})
            last = opened is texts[-1]
            item = _Item(body, "ev", self.run, snapshot=True, last_snapshot=last, covers=opened.id)
            self._batcher.add(item, len(body.raw))
        self._more.set()  # a long text fills the queue by itself, and who waits for room behind it says nothing more

    # --- the way to the log -------------------------------------------------------------------------

    async def _wait_for_room(self) -> None:
        while self._batcher.full:
            self._check(self._left)
            self._room.clear()
            await self._room.wait()

    def _check(self, over: bool) -> None:
        if over:
            raise RunClosed(f"Run {self.run!r} has ended.", hint="Write inside its block.", run=self.run)

    async def _room_to_write(self) -> None:
        """Wait until more can be queued. What is written then is written without another wait, so that a caller who is
        cancelled has written all of it or nothing."""
        self._check(self.ending)
        await self._wait_for_room()
        self._check(self.ending)  # it may have ended meanwhile

    async def _put(self, *items: _Item) -> None:
        await self._room_to_write()
        self._add(*items)

    def _add(self, *items: _Item) -> None:
        for item in items:
            self._batcher.add(item, len(item.body.raw))
        self._more.set()

    async def pump(self) -> None:
        """Publish one thing at a time; what is written meanwhile gathers and leaves together."""
        clock = asyncio.get_running_loop().time
        snapshot_due = clock() + SNAPSHOT_S
        while True:
            now = clock()
            if self._flying is None:
                item = self._batcher.next(now)
                self._flying = None if item is None else self._draft_of(item)
            if self._flying is not None:
                await self._store(self._flying)
                self._flying = None
                self._batcher.done()
                self._room.set()
                continue
            if self.ending and self._batcher.idle:
                return
            if now >= snapshot_due:
                snapshot_due = now + SNAPSHOT_S
                if any(opened.text.unsaved or opened.reasoning.unsaved for opened in self._open.values()):
                    self._snapshot_all()
                    continue
            self._more.clear()
            deadline = self._batcher.deadline(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, (snapshot_due if deadline is None else deadline) - now)):
                    await self._more.wait()

    def _draft_of(self, item: Delta | Milestone[_Item]) -> Draft:
        self._count += 1
        id = f"{self._nonce}.{self._count}"
        if isinstance(item, Delta):
            text = Parsed(item.type, {}, orjson.dumps(item.text))
            return self._draft(text, "tok", self.run, id, delta=DeltaRef(item.message, item.at))
        it = item.item
        self._starting = it.starts
        self._moving = it.moves
        body = it.body
        if it.covers in self._began:
            # The message's beginning goes with the deltas: late joiners know its place by this.
            body = body._replace(raw=body.raw[:-1] + f',"began":"{self._began[it.covers]}"}}'.encode())
        headers = {}
        if it.snapshot:
            if it.last_snapshot:
                self._snapshot_from = self._acked + 1
            headers[SNAPSHOT_FROM] = str(self._snapshot_from)
        return self._draft(body, it.kind, it.name, id, headers)

    def _draft(
        self,
        body: Parsed,
        kind: Kind,
        name: str,
        id: str,
        headers: Mapping[str, str] | None = None,
        delta: DeltaRef | None = None,
    ) -> Draft:
        who = self._identity
        return Draft(
            body.type, body.raw, id, kind, name, who.participant, who.writer, self.run, delta, None, headers or {}
        )

    async def _store(self, draft: Draft) -> int:
        """Publish under the claim, with the same id for as long as the broker may be away; return the sequence."""
        ttl_s = DELTA_TTL_S if draft.kind == "tok" else None
        give_up = asyncio.get_running_loop().time() + GIVE_UP_S
        while True:
            try:
                ack = await self._log.publish(self.to, draft, guard=self.fence, timeout_s=_TRY_S, ttl_s=ttl_s)
            except Conflict as conflict:
                raise await self._why_fenced(RunFenced) from conflict
            except Closed:
                raise
            except BrokerUnavailable:
                if asyncio.get_running_loop().time() > give_up:
                    raise
                log.warning("run_waits_for_broker", run=self.run)
                continue
            if draft.kind == "tok":
                self._acked = ack.sequence
                if self.first_text_after_s is None and draft.delta is not None:
                    self.first_text_after_s = time.monotonic() - self._claimed_at
            if self._moving:
                self._moving = False
                self.fence = Guard("own", self.run, ack.sequence)
            if self._starting is not None:
                self._began[self._starting] = Offset(self.to.segment, ack.sequence)
                self._starting = None
            return ack.sequence

    async def _why_fenced(self, otherwise: type[RunFenced | RunExists]) -> FabricError:
        newest = await self._log.newest(self.to, Wanted("own", self.run))
        if newest is None:
            return SessionGone(f"Session {self.to.place.session!r} was deleted.", session=self.to.place.session)
        if newest.type in RUN_OVER:
            return RunClosed(f"Run {self.run!r} has ended.", hint="Begin a new run.", run=self.run)
        return otherwise(f"Run {self.run!r} is {newest.actor}'s.", hint="Begin a run of another id.", run=self.run)
