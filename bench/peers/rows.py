"""What is measured of a peer. Each function gives values by row; what else is to be known of one is in `Said.notes`."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from bench.peers.crowd import Confirming, Crowd, come_all, come_back
from bench.peers.peer import NODE, START, TAIL, InTurn, Peer, Writer, program
from bench.plan import Plan
from bench.report import middle, percentile
from bench.sockets import MARK, read_until
from bench.viewers import Seen

_BATCH: Final = 200
_STREAMS: Final = 200
_VANISH_S: Final = 15.0
_STAMPED: Final = len(MARK) + 16
_LONG: Final = b"x" * 80
_fresh = count()


@dataclass
class Said:
    """Values by row, and notes by row."""

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


Measure = Callable[[Peer, Plan], Said]


def text(more: bytes = b" tok") -> bytes:
    """Return a text with a mark and the time."""
    return MARK + b"%016x" % time.time_ns() + more


def _topics(peer: Peer, count_: int = 1) -> list[str]:
    """Make topics that nothing has been written into."""
    some = [f"b{next(_fresh)}" for _ in range(count_)]
    peer.make(some)
    return some


def latency(peer: Peer, plan: Plan) -> Said:
    """A hundred texts a second to one viewer who uses the peer's own client library."""
    [topic] = _topics(peer)
    command = [program("node", "https://nodejs.org"), "view.mjs", peer.client, str(peer.port), topic]
    viewer = subprocess.Popen(command, cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert viewer.stdout is not None
    try:
        if viewer.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the viewer failed: {viewer.communicate(timeout=5)[1].decode()[-600:]}")
        writer = peer.writer([topic])
        total = plan.scaled(200)
        begin = time.monotonic()
        for number in range(total):
            time.sleep(max(0.0, begin + number / 100 - time.monotonic()))
            writer.write([(topic, text())])
        time.sleep(0.3)
        took = json.loads(viewer.communicate(b"", timeout=10)[0])
        writer.close()
    finally:
        viewer.kill()
        viewer.wait()
    said = Said({"latency-p50": percentile(took, 0.5), "latency-p99": percentile(took, 0.99)})
    if len(took) != total:
        said.notes["latency-p50"] = f"{len(took)} of {total} texts came"
    return said


def fanout(viewers: int, most: int) -> Measure:
    """Return a measurement of one topic with so many viewers, `most` texts in all."""

    def measure(peer: Peer, plan: Plan) -> Said:
        topics = _topics(peer)
        many = plan.scaled(viewers)
        return _burst(peer, topics, many, plan.scaled(most), f"fanout-{viewers}")

    return measure


def streams(peer: Peer, plan: Plan) -> Said:
    """Two hundred topics with a viewer each, as fast as it goes."""
    return _burst(peer, _topics(peer, plan.scaled(_STREAMS)), 1, plan.scaled(20_000), "streams")


def _burst(peer: Peer, topics: Sequence[str], viewers_each: int, most: int, row: str) -> Said:
    """A short burst says how long one may be that lasts a second or so; that one counts."""
    ways = [peer.way(topic, f"{topic}-{n}") for topic in topics for n in range(viewers_each)]
    writer = peer.writer(topics)
    with Crowd(ways, patience_s=3.0) as crowd:
        first = max(1, 100 // len(topics))
        rate, _ = _write_burst(crowd, writer.write, topics, first, len(ways))
        each = int(max(first, min(most / len(topics), 1.2 * rate / len(ways))))
        rate, seen = _write_burst(crowd, writer.write, topics, each, len(ways))
    writer.close()
    said = Said({row: rate})
    if seen.events != each * len(ways):
        said.notes[row] = f"{seen.events:,} of {each * len(ways):,} deliveries came"
    return said


def _write_burst(
    crowd: Crowd, write: Callable[[Sequence[tuple[str, bytes]]], None], topics: Sequence[str], each: int, viewers: int
) -> tuple[float, Seen]:
    crowd.look(each)
    began = time.time()
    items = [(topic, text()) for _ in range(each) for topic in topics]
    for first in range(0, len(items), _BATCH):
        write(items[first : first + _BATCH])
    seen = crowd.result()
    return seen.events / max(seen.last - began, 1e-6), seen


def tokens(peer: Peer, plan: Plan) -> Said:
    """Two hundred streams at twenty tokens a second each, evenly; ten at a time are acknowledged together."""
    topics = _topics(peer, _STREAMS)
    per_s, seconds, group = 20, plan.scaled(3, 3), 10
    writer = peer.writer(topics)
    with Crowd([peer.way(topic, topic) for topic in topics], stamps=True, patience_s=3.0) as crowd:
        crowd.look()
        begin, written = time.monotonic(), 0
        for turn in range(per_s * seconds):
            for first in range(0, _STREAMS, group):
                due = begin + turn / per_s + first / _STREAMS / per_s
                time.sleep(max(0.0, due - time.monotonic()))
                writer.write([(topic, text()) for topic in topics[first : first + group]])
                written += group
            if time.monotonic() - begin > 1.5 * seconds:
                break
        rate = written / (time.monotonic() - begin)
        seen = crowd.result()
    writer.close()
    p50, p99 = (percentile(seen.latencies_ms, share) for share in (0.5, 0.99))
    beyond = seen.bytes / max(1, seen.events) - len(text())
    said = Said({"tokens-p50": p50, "tokens-p99": p99, "bytes": beyond})
    if rate < 0.95 * per_s * _STREAMS:
        said.notes["tokens-p50"] = f"did not keep up: {rate:,.0f} of {per_s * _STREAMS:,} tokens/s were taken"
    if seen.events != written:
        said.notes["tokens-p99"] = f"{seen.events:,} of {written:,} tokens came"
    return said


def append(peer: Peer, plan: Plan) -> Said:
    """One after the other into one session, each acknowledged before the next."""
    [topic] = _topics(peer)
    return Said({"append": _appended(peer, [topic], plan, _in_turn)})


def append_many(peer: Peer, plan: Plan) -> Said:
    """Into 64 sessions at once, one in each under way."""
    return Said({"append-many": _appended(peer, _topics(peer, 64), plan, lambda writer, items: writer.write(items))})


def _in_turn(writer: Writer, items: Sequence[tuple[str, bytes]]) -> None:
    if isinstance(writer, InTurn):
        writer.write_in_turn(items)
    else:
        for item in items:
            writer.write([item])


def _appended(
    peer: Peer, topics: Sequence[str], plan: Plan, write: Callable[[Writer, Sequence[tuple[str, bytes]]], None]
) -> float:
    seconds, written = 0.3 if plan.quick else 1.5, 0
    several = [*topics] * (64 // len(topics))
    with peer.taking_appends():
        writer = peer.appender(topics)
        write(writer, [(topic, text(_LONG)) for topic in topics])
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            write(writer, [(topic, text(_LONG)) for topic in several])
            written += len(several)
        writer.close()
    return written / passed


def catchup(peer: Peer, plan: Plan) -> Said:
    """From the call that connects until 10,000 stored events are read: by one viewer, and then by another."""
    [topic] = _topics(peer)
    events = plan.scaled(10_000)
    places = _leave(peer, [topic] * 2) if "latejoin" in peer.cannot else [START] * 2
    writer = peer.appender([topic])
    for first in range(0, events, _BATCH):
        writer.write([(topic, text(_LONG)) for _ in range(min(_BATCH, events - first))])
    writer.close()
    told = come_back([peer.way(topic, f"{topic}-{n}", place) for n, place in enumerate(places)], events, 1)
    if told.failed:
        raise RuntimeError(told.failed[0])
    return Said({"catchup": told.took_s[0] * 1e3, "catchup-again": told.took_s[1] * 1e3})


def latejoin(peer: Peer, plan: Plan) -> Said:
    """A viewer who has seen nothing comes when 2,000 tokens of an answer are written, and the answer goes on."""
    [topic] = _topics(peer)
    said = [text() for _ in range(plan.scaled(2000))]
    with peer.answering(topic, said):
        took = []
        for number in range(5):
            told = come_back([peer.way(topic, f"late-{topic}-{number}", START)], len(said), 1, said[-1].strip())
            if told.failed:
                raise RuntimeError(told.failed[0])
            took += told.took_s
    return Said({"latejoin": middle(took) * 1e3})


def conversation(peer: Peer, plan: Plan) -> Said:
    """A viewer who has seen nothing opens a conversation of a hundred answers of a hundred tokens, all ended."""
    [topic] = _topics(peer)
    answers = [[text() for _ in range(100)] for _ in range(plan.scaled(100))]
    peer.converse(topic, answers)
    told = come_back([peer.way(topic, f"reader-{topic}", START)], 100 * len(answers), 1)
    if told.failed:
        raise RuntimeError(told.failed[0])
    return Said({"conversation": told.took_s[0] * 1e3})


def storm(peer: Peer, plan: Plan) -> Said:
    """A thousand viewers of one topic lose their connections, miss 20 events, and come back, 200 at a time."""
    [topic] = _topics(peer)
    many, missed = plan.scaled(1000), 20
    places = _leave(peer, [topic] * many)
    writer = peer.appender([topic])
    writer.write([(topic, text(_LONG)) for _ in range(missed)])
    writer.close()
    told = come_back([peer.way(topic, f"{topic}-{n}", place) for n, place in enumerate(places)], missed, 200)
    said = Said({"storm": told.wall_s})
    if told.failed:
        said.notes["storm"] = f"{len(told.failed)} of {many} did not come back whole: {told.failed[0]}"
    return said


def _leave(peer: Peer, topics: Sequence[str]) -> list[str]:
    """Connect a viewer to each, have all of them see one event, cut them off; return where each was."""
    ways = [peer.way(topic, f"{topic}-{n}", TAIL) for n, topic in enumerate(topics)]
    viewers = come_all(ways)
    writer = peer.appender(topics[:1])
    writer.write([(topics[0], text(_LONG))])
    writer.close()
    places, confirming = [], Confirming()
    for connection, heard in viewers:
        before, behind = read_until(connection, heard, MARK)
        # What stands behind the mark in its frame may be the place.
        while len(behind) < 16 + len(_LONG) + peer.trailer:
            behind += connection.recv(1 << 16)
        places.append(peer.place(before + MARK + behind))
        if ways[0].confirms:
            confirming(connection, before[-2:] + MARK)
    for connection, _ in viewers:
        connection.close()
    time.sleep(0.5)  # until the servers have noticed
    return places


def memory(peer: Peer, plan: Plan) -> Said:
    """What a connection adds that looks at one topic, to all servers of the peer together."""
    [topic] = _topics(peer)
    many, warm = plan.scaled(1000), 50
    ways = [peer.way(topic, f"m-{topic}-{n}") for n in range(warm + many)]
    held = come_all(ways[:warm])
    before = peer.rss()
    held += come_all(ways[warm:])
    time.sleep(0.3)
    cost = (peer.rss() - before) / many / 1024
    for connection, _ in held:
        connection.close()
    return Said({"connection": cost})


def idle_session(peer: Peer, plan: Plan) -> Said:
    """What a session adds that has one event, and that nobody looks at."""
    peer.idle(_topics(peer, 50), text(_LONG))
    many = plan.scaled(1000)
    before = peer.rss()
    peer.idle(_topics(peer, many), text(_LONG))
    time.sleep(0.3)
    cost = (peer.rss() - before) / many / 1024
    # Go's and Node's heaps grow in steps.
    return Said({"idle-session": cost}) if cost > 0 else Said({}, {"idle-session": "too little to be seen"})


def crash(peer: Peer, plan: Plan) -> Said:
    """`kill -9` of an agent's process until one viewer is told of it, and until it is settled."""
    took = peer.crash(plan.scaled(10))
    settled = {"crash-settled": middle(took.settled) * 1e3} if took.settled else {}
    return Said({"crash": middle(took.seconds) * 1e3, **settled})


def vanish(peer: Peer, plan: Plan) -> Said:
    """From one moment on nothing passes between an agent and its server, and nothing says so."""
    took = peer.vanish(plan.scaled(int(_VANISH_S), 3))
    if took is None:
        return Said({}, {"vanish": f"not within {plan.scaled(int(_VANISH_S), 3)} s"})
    return Said({"vanish": took})


# By the name of what a peer may say it cannot; in the order in which they are done: memory while
# servers are young, and have none to use again.
ROWS: Final[Mapping[str, Measure]] = {
    "connection": memory,
    "idle-session": idle_session,
    "latency": latency,
    "fanout-100": fanout(100, 20_000),
    "fanout-1000": fanout(1000, 4000),
    "streams": streams,
    "tokens": tokens,
    "append": append,
    "append-many": append_many,
    "catchup": catchup,
    "latejoin": latejoin,
    "conversation": conversation,
    "storm": storm,
    "crash": crash,
    "vanish": vanish,
}
# Sizes hardly vary, and waiting is long: in the first round alone.
ONCE: Final = ("connection", "idle-session", "vanish")
