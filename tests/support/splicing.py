"""A log, its unreliable live feed, its lagging replicas, and a follower that joins them with a `Splice`.

The follower does what `session_fabric.rules.splice` tells its owner to do, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hypothesis import strategies as st
from session_fabric.rules.splice import DELIVER, DUPLICATE, LATE, Splice

MILESTONES = ("ev._.writer", "in.default.ada")
DELTAS = ("tok.r1.writer", "tok.r2.critic")
SUBJECTS = MILESTONES + DELTAS
EV, IN = MILESTONES
TOK = DELTAS[0]


class Stored(NamedTuple):
    sequence: int
    subject: str
    previous: int


class Log:
    """What the leader has, and a feed of each event once, from which the test takes in any order or not at all."""

    def __init__(self) -> None:
        self.published: list[Stored] = []
        self.stored: list[Stored] = []
        self.feed: list[Stored] = []

    def append(self, subject: str) -> None:
        previous = max((s.sequence for s in self.stored if s.subject == subject), default=0)
        # Other sessions share the stream: sequences have holes.
        event = Stored(len(self.published) * 2 + 11, subject, previous)
        self.published.append(event)
        self.stored.append(event)
        self.feed.append(event)

    def purge(self, subject: str, keep: int) -> None:
        gone = [s for s in self.stored if s.subject == subject]
        gone = gone[: len(gone) - keep] if keep else gone
        self.stored = [s for s in self.stored if s not in gone]

    def head(self) -> int:
        """The newest sequence that the leader still has."""
        return self.stored[-1].sequence if self.stored else 0

    def read(self, after: int, upto: int, behind: int = 0) -> Iterator[Stored]:
        known = self.published[: len(self.published) - behind]
        return (s for s in list(self.stored) if after < s.sequence <= upto and s in known)

    def lasts(self, after: int, upto: int, behind: int = 0) -> Mapping[str, int]:
        return {s.subject: s.sequence for s in self.read(after, upto, behind)}


class Rewinder:
    """A client that appends what comes and cuts back when told to; it never looks at offsets."""

    def __init__(self) -> None:
        self.events: list[Stored] = []

    def take(self, event: Stored) -> None:
        self.events.append(event)

    def rewind(self, to: int) -> None:
        self.events = [s for s in self.events if s.sequence <= to]


class Deduper(Rewinder):
    """A client that pays no heed to rewinds and keeps by offset."""

    def take(self, event: Stored) -> None:
        if event not in self.events:
            self.events = sorted([*self.events, event])

    def rewind(self, to: int) -> None:
        pass


class Follower:
    """The owner of a splice. `careless` believes a replica that is behind."""

    def __init__(self, log: Log, splice: Splice, *, careless: bool = False) -> None:
        self.log = log
        self.splice = splice
        self.careless = careless
        self.clients = (Rewinder(), Deduper())
        self.behind = 0  # how far the replica lags that answers next
        self.cut: int | None = None  # after how many records the next read breaks off
        self.meanwhile: list[str] = []  # what is appended, and arrives live, while the next read is under way

    def live(self, event: Stored) -> None:
        verdict = self.splice.live(event.subject, event.sequence, event.previous)
        if verdict is DELIVER:
            self._deliver(event)
        elif verdict is not DUPLICATE:
            self.fill()

    def check(self) -> None:
        head = self.log.head()
        lasts = self.log.lasts(self.splice.verified, head, self._lag())
        if not self.splice.check(lasts, head):
            self.fill()

    def fill(self) -> None:
        head = self.log.head()
        records = list(self.log.read(self.splice.verified, head, self._lag()))
        buffered = len(self.log.feed)
        for subject in self.meanwhile:
            self.log.append(subject)
        self.meanwhile = []
        arrived, self.log.feed[buffered:] = self.log.feed[buffered:], []
        cut, self.cut = self.cut, None
        for event in records[:cut]:
            verdict = self.splice.stored(event.subject, event.sequence)
            if verdict is LATE:
                to = self.splice.rewound()
                for client in self.clients:
                    client.rewind(to)
                verdict = self.splice.stored(event.subject, event.sequence)
            if verdict is DELIVER:
                self._deliver(event)
        if cut is None or cut >= len(records):
            self.splice.filled(head)
        for event in arrived:
            self.live(event)

    def _lag(self) -> int:
        """A replica that has not the leader's head is asked again, unless the follower is careless."""
        behind, self.behind = self.behind, 0
        return min(behind, len(self.log.published)) if self.careless else 0

    def _deliver(self, event: Stored) -> None:
        for client in self.clients:
            client.take(event)


def assert_exact(follower: Follower, upto: int) -> None:
    """Both clients have each event once and in order, and up to `upto` everything that is still stored."""
    published = set(follower.log.published)
    for client in follower.clients:
        sequences = [s.sequence for s in client.events]
        assert sequences == sorted(set(sequences)), "repeated or out of order"
        assert published.issuperset(client.events)
        missing = [s for s in follower.log.stored if s.sequence <= upto and s not in client.events]
        assert not missing, f"never delivered: {missing}"


subject = st.sampled_from(SUBJECTS)
Action = tuple[str, int, str]
near, anywhere = st.integers(0, 2), st.integers(0, 40)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), near, subject),
        st.tuples(st.just("append"), near, subject),
        st.tuples(st.just("arrive"), near, subject),
        st.tuples(st.just("arrive"), near, subject),
        st.tuples(st.just("arrive"), anywhere, subject),
        st.tuples(st.just("drop"), near, subject),
        st.tuples(st.just("repeat"), anywhere, subject),
        st.tuples(st.sampled_from(["check", "fill", "lose"]), near, subject),
        st.tuples(st.just("purge"), near, st.sampled_from(DELTAS)),
        st.tuples(st.sampled_from(["lag", "cut", "meanwhile"]), near, subject),
    ),
    max_size=60,
)


def play(splice: Splice, script: list[Action], *, careless: bool = False) -> Follower:
    """Act a script; hold the promise of `verified` after each action, and exactness after a last check."""
    log = Log()
    follower = Follower(log, splice, careless=careless)
    for action, number, name in script:
        act(log, follower, action, number, name)
        assert_exact(follower, splice.verified)
        assert splice.verified <= splice.delivered
    log.feed.clear()
    follower.cut = None
    follower.meanwhile.clear()
    follower.check()
    assert splice.verified >= log.head()
    assert_exact(follower, log.head())
    return follower


def act(log: Log, follower: Follower, action: str, number: int, name: str) -> None:
    match action:
        case "append":
            log.append(name)
        case "arrive" if log.feed:
            follower.live(log.feed.pop(number % len(log.feed)))
        case "drop" if log.feed:
            log.feed.pop(number % len(log.feed))
        case "repeat" if log.published:
            follower.live(log.published[number % len(log.published)])
        case "check":
            follower.check()
        case "fill":
            follower.fill()
        case "lose":
            log.feed.clear()
        case "purge":
            log.purge(name, number)
        case "lag":
            follower.behind = number + 1
        case "cut":
            follower.cut = number
        case "meanwhile":
            follower.meanwhile.append(name)
