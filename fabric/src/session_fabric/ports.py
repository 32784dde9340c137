"""What the fabric needs of a broker. Two rooms keep these promises: `jetstream` and `memory`.

`tests/conformance` holds each promise as a test and runs it on both, and on three nodes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from session_fabric.words.events import Draft
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import Record


class Home(NamedTuple):
    """In what a session's sequences count: a stream, whichever it is that keeps the events by now. `epoch` changes
    when that was made anew, and not when the session moves to another one, at the same sequences."""

    stream: str
    epoch: str


class Stretch(NamedTuple):
    """A stretch of stored events: where they are, and the segment under which offsets name them."""

    home: Home
    place: Place
    segment: int


class Wanted(NamedTuple):
    """Which of a session's events to read: all of a kind, or those of one name (a run's deltas), above `after`."""

    kind: Kind
    name: str | None = None
    after: int = 0


class Ack(NamedTuple):
    """A stored event. `duplicate`: the broker knew the id; `sequence` is then the first one's."""

    sequence: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition on the newest event of subjects `kind/name` (any writer): its sequence must be this (0: none)."""

    kind: Kind
    name: str
    sequence: int


class Listening(Protocol):
    async def close(self) -> None: ...


class Log(Protocol):
    """Sessions' events in streams; one total order a stream."""

    async def home(self, place: Place) -> Home:
        """Return the stream in which a new segment of this session begins."""

    def home_at_hand(self, place: Place) -> Home | None:
        """Return the same where it is known and still counts; None: `home` has to ask."""

    async def publish(
        self, to: Stretch, draft: Draft, *, guard: Guard | None = None, timeout_s: float = 5.0, ttl_s: int | None = None
    ) -> Ack:
        """Store one event; return when a quorum has it.

        Retries by itself, with the same id, until `timeout_s`. Raises `BrokerUnavailable` (may or may not be
        stored; try again with the same id), `Conflict` (the guard did not hold; `facts["revision"]` is the newest
        sequence of the guarded subject, or None where unknown; a retry whose first try had been stored is found
        out and answers `duplicate`), `TooLarge`. Cancelled: may or may not be stored.
        """

    async def head(self, to: Stretch, *, kinds: Sequence[Kind] = ()) -> int:
        """Return the newest sequence of the session (of these kinds; `()`: all), from the leader (0: nothing)."""

    async def end(self, to: Stretch) -> int:
        """Return the newest sequence that the stream has given to anything; removal does not lower it."""

    async def newest(self, to: Stretch, wanted: Wanted) -> Record | None:
        """Return the newest event of a kind or name, from the leader."""

    async def lasts(self, to: Stretch, after: int, upto: int, *, kinds: Sequence[Kind] = ()) -> Mapping[str, int]:
        """Return, for each subject (of these kinds) with events in `(after, upto]`, the last sequence there.

        Where `upto` itself was removed since it was named, a subject's last may be a later one than that.
        Raises `BrokerUnavailable` when no replica that has `upto` answered in time.
        """

    def read(
        self, to: Stretch, *, after: int, upto: int, wanted: Sequence[Wanted] = ()
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read stored events in `(after, upto]` in order, in batches; `wanted` empty is all, its parts never overlap.

        `upto` must be a sequence that the leader named (`head`); a replica that is behind it is asked again.
        Raises `BrokerUnavailable`. Large bodies come whole (claim checks are resolved).
        """

    def read_back(
        self,
        to: Stretch,
        *,
        before: int,
        limit: int,
        most_bytes: int | None = None,
        wanted: Sequence[Wanted] = (),
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read the newest `limit` events below sequence `before`, oldest first.

        Fewer where their bodies come to `most_bytes` before that: the event with which they do is the oldest.
        """

    async def whole(self, place: Place, record: Record) -> None:
        """Bring the body of an event that came by a durable subscription, where it was stored apart.

        `read`, `read_back` and `newest` have done so. What is gone stays as it is. Raises `BrokerUnavailable`.
        """

    async def runs_with_deltas(self, to: Stretch) -> Mapping[str, int]:
        """Return each run that still has stored deltas, and how many."""

    async def listen(self, to: Stretch, sink: Callable[[Record], None], *, kinds: Sequence[Kind] = ()) -> Listening:
        """Call `sink` with each event (of these kinds) after it is stored, from now on; in order but at most once.

        Returns when the broker has registered the interest; whatever is stored after a `head` that was asked
        then is heard, through every node. `sink` runs on the event loop and must not raise
        or block. Records may be lost (a broken connection, a leader's end): join with `read` by sequence.
        Events whose body is a claim check arrive unresolved (`record.blob` is set).
        """

    async def purge(self, to: Stretch, *, wanted: Wanted | None = None, upto: int | None = None) -> int:
        """Remove stored events (of one kind or name; up to and including a sequence); return how many.

        A replica that is behind may show them to a read for a moment longer.
        """

    async def subjects(self, to: Stretch, kind: Kind | None = None) -> Mapping[str, int]:
        """Return each subject of the session that has stored events (of a kind), and how many."""

    async def erase(self, to: Stretch, sequences: Sequence[int]) -> int:
        """Remove single events of this session, their large bodies too, and write over where they were; return how
        many were there. What is another session's stays. Raises `BrokerUnavailable`: again, what is done is done.
        """


# The buckets there are, and how many versions of a key each keeps.
BUCKETS: Final[Mapping[str, int]] = {
    "sf-sessions": 1,
    "sf-streams": 1,
    "sf-wakes": 1,
    "sf-leases": 1,
    "sf-claims": 1,
    "sf-presence": 1,
    "sf-cursors": 1,
    "sf-state": 8,
    "sf-checkpoints": 1,
    "sf-dead": 1,
    "sf-tickets": 1,
    "sf-revoked": 1,
    "sf-tenants": 1,
    "sf-audit": 1,
    "sf-layout": 1,
}


class Entry(NamedTuple):
    """A bucket's entry. `value` None: deleted or expired."""

    key: str
    value: bytes | None
    revision: int


class Dated(NamedTuple):
    """An entry that lives, and when it was written: milliseconds since 1970, by the broker's clock."""

    entry: Entry
    ts: int


class Bucket(Protocol):
    """Current values by key with revisions; a write is seen by every later `get` from the leader."""

    async def get(self, key: str) -> Entry | None: ...

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        """Write; return the revision."""

    async def swap(self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None) -> int:
        """Write if the newest revision is this (0: no live value); else raise `Conflict` with `facts["revision"]`."""

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove the value and its history; watchers see None. Leaves nothing that outlives a minute.

        `revision`: only if it is the newest one; else raises `Conflict` as `swap` does.
        """

    async def entries(self, prefix: str = "") -> list[Entry]:
        """Return what lives under a dotted prefix (`""`: all; `*` stands for any one word), in the order of its last
        change.

        Writes that were confirmed before the call are in it; later ones may be.
        """

    async def dated(self, prefix: str = "") -> list[Dated]:
        """Return the same and when each was written: what is not in it has a revision above all that are."""

    async def latest(self, prefix: str, *, limit: int, before: int | None = None) -> list[Dated]:
        """Return the `limit` entries under a dotted prefix (`""`: all) that changed last, the newest change first.

        `before`: only those below this revision, so that a long list is read in pages, each for what it holds; fewer
        than `limit` are the end of it. Writes that were confirmed before the call are in it. For buckets that keep one
        version of a key.
        """

    async def history(self, key: str) -> list[Entry]:
        """Return what the bucket still has of a key, oldest first; at most what its history holds."""

    async def watch(self, prefix: str, sink: Callable[[Entry], None]) -> Listening:
        """Call `sink` with each later change at or under a dotted prefix; at most once, no history.

        Whatever is written after a `get` or `entries` that was asked then is heard, through every node.
        """


class Delivery(Protocol):
    """One event handed to a durable subscription, to be acknowledged."""

    @property
    def record(self) -> Record: ...
    @property
    def place(self) -> Place: ...
    @property
    def attempts(self) -> int: ...
    async def ack(self) -> None: ...
    async def nak(self, delay_s: float = 0.0) -> None: ...
    async def extend(self) -> None:
        """Ask for another ack wait: the work goes on."""


class Durable(Protocol):
    """A durable consumer shared by all who open it under the same name: each event to one of them."""

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[Delivery]:
        """Return up to `limit` deliveries, or none after `timeout_s`."""

    async def rest(self) -> None:
        """Take nothing more until the next `fetch`; what was fetched ahead and taken by nobody goes back at once, and
        so does what was asked for and comes late. Each time that it goes back counts as a delivery."""

    async def lag(self) -> tuple[int, int]:
        """Return how many events wait, and how many are delivered and not yet acknowledged."""

    async def delete(self) -> None: ...
    async def close(self) -> None:
        """Stop fetching; what was fetched ahead and taken by nobody goes back at once."""


class Backlog(NamedTuple):
    """How far a durable subscription has come in one stream. `tenant`, `session` None: it is on all of them.

    `delivered` and `acknowledged` are sequences: all of its events up to there have been. `waiting` were never
    delivered, `in_hand` were and are not acknowledged yet, `again` of them more than once. `asking`: requests for more
    that wait now; 0 while workers are busy, or there is none.
    """

    name: str
    stream: str
    tenant: str | None
    session: str | None
    delivered: int
    acknowledged: int
    waiting: int
    in_hand: int
    again: int
    asking: int

    def passes(self, place: Place) -> bool:
        """Say whether a session's events pass through it, as far as its filter of kinds lets them."""
        return self.tenant in (None, place.tenant) and self.session in (None, place.session)


class Signals(Protocol):
    """Ambient messages: not stored, at most once."""

    async def send(self, place: Place, data: bytes) -> None: ...
    async def listen(self, place: Place, sink: Callable[[bytes], None]) -> Listening: ...


class Calls(Protocol):
    """Requests to a process that lives, by its name: answered while it does, stored never."""

    async def serve(self, name: str, answer: Callable[[bytes], Awaitable[bytes]]) -> Listening:
        """Answer requests to `name` from now on, each in a task of its own, at most 256 at once; more are left
        unanswered. An `answer` that raises is logged and answers nothing. Survives a lost connection. In a cluster
        another node may say for a moment, after this or a reconnection, that nobody answers."""

    async def ask(self, name: str, data: bytes, *, timeout_s: float) -> bytes:
        """Return the answer. Raises `NobodyAnswers` when the broker says at once that nobody serves the name, and
        `BrokerUnavailable` when nothing came in time (frozen, on its way to vanish, or the broker is away)."""


class Departure(NamedTuple):
    """A process's connection that has ended. `closed`: from its side, so that it had no other; else it may have one."""

    holder: str
    closed: bool


class Broker(Protocol):
    """The whole of it. `generation` rises with each connection, so that a change tells of a gap in `listen`.

    `holder` names this connection's process for as long as it lives: 20 letters and digits, never used again.
    """

    @property
    def holder(self) -> str: ...
    @property
    def may_mend(self) -> bool:
        """Whether this connection has the rights to put in order what other processes have left behind."""

    @property
    def calls(self) -> Calls: ...
    @property
    def log(self) -> Log: ...
    @property
    def signals(self) -> Signals: ...
    @property
    def connected(self) -> bool: ...
    @property
    def generation(self) -> int: ...
    @property
    def closed(self) -> bool: ...  # whoever waits for the broker then raises `Closed`

    def bucket(self, name: str) -> Bucket:
        """Return one of the provisioned buckets (`BUCKETS`)."""

    async def durable(
        self,
        tenant: str | None,
        name: str,
        *,
        place: Place | None,
        wanted: Sequence[Wanted],
        ack_wait_s: float,
        max_deliver: int,
        start: str,
    ) -> Durable:
        """Open or make a durable subscription on a session, on all of a tenant's (`place` None), or on all there is
        (`tenant` None too).

        `start` is "start" or "tail", used when it is made. Raises `BrokerIncompatible` when one of that name
        exists with another filter.
        """

    def on_connection(self, sink: Callable[[bool], None]) -> Callable[[], None]:
        """Call `sink` with each change of `connected`; the returned call ends it."""

    async def on_departure(self, sink: Callable[[Departure], None]) -> Listening:
        """Call `sink` with each connection that the broker saw end, within milliseconds; at most once.

        Only where the deployment lets us hear of it, and not for what the broker itself has ended (its own stop), so
        it is a hint: a lease that is not renewed is the rule. A process may connect again after.
        """

    async def ping(self, timeout_s: float = 2.0) -> float:
        """Return the round trip in seconds; raise `BrokerUnavailable`."""

    async def put_blob(self, place: Place, name: str, data: bytes) -> None: ...
    async def get_blob(self, place: Place, name: str) -> bytes | None:
        """Return a large body, None where there is none. One that was removed may be shown for a moment longer by a
        replica that is behind."""

    async def blobs(self, place: Place) -> Sequence[str]:
        """Return the names of a session's large bodies."""

    async def delete_blobs(self, place: Place, names: Sequence[str] | None = None) -> int:
        """Remove large bodies of a session (None: all); return how many parts of them there were."""

    async def durables(self, place: Place) -> Sequence[str]:
        """Return the durable subscriptions on this session alone."""

    async def delete_durables(self, place: Place) -> int:
        """Remove the durable subscriptions on this session alone; return how many."""

    async def backlogs(self, place: Place) -> Sequence[Backlog]:
        """Return how far the durable subscriptions have come that a session's events pass through, by name; nothing
        where one has no rights to see them."""

    async def list_streams(self) -> Sequence[Mapping[str, object]]: ...
    async def close(self) -> None: ...
