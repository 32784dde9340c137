"""Nothing lost, nothing twice, one order: rules over the log and over what each reader got of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.fault.history import PASSING, Call, Event, Got, History, Marked, Opened, Reading, Rewound, Verdict

# How many of many are named.
_NAMED = 5


def stored_once(session: str, stored: Sequence[Event]) -> Iterator[Verdict]:
    """Offsets rise, and no id is there twice."""
    last, ids = "", dict[str, str]()
    for event in stored:
        if event.offset <= last:
            yield Verdict("order", f"{session}: {event.offset} is stored behind {last}", (event.offset,))
        last = event.offset
        if event.id is None or event.type in PASSING:
            continue
        if event.id in ids:
            yield Verdict("doubled", f"{session}: {event.id} is stored twice", (ids[event.id], event.offset))
        ids[event.id] = event.offset


def acknowledged(history: History) -> Iterator[Verdict]:
    """What was acknowledged is stored where it was said to be; what was refused is not stored."""
    by_id = {name: {e.id: e for e in stored if e.id} for name, stored in history.stored.items()}
    for call in history.calls:
        if call.what in ("claim", "floor"):
            continue  # their events have ids of the fabric's: `winner_rules`
        found = by_id[call.session].get(call.id)
        if call.outcome == "refused" and found is not None:
            yield Verdict("refused", f"{call.who}: {call.id} was refused, and is stored", (found.offset,))
        if call.outcome != "ok":
            continue
        if found is None:
            yield Verdict("lost", f"{call.who}: {call.id} was acknowledged, and is not stored", (str(call.offset),))
        elif call.offset is not None and found.offset != call.offset:
            where = (call.offset, found.offset)
            yield Verdict("lost", f"{call.who}: {call.id} was acknowledged at another offset", where)


def one_truth(history: History) -> Iterator[Verdict]:
    """Whoever gets an offset gets the same event there, and none that is not stored."""
    for session, stored in history.stored.items():
        seen = {event.offset: ("the log", event) for event in stored}
        for reading in history.readings:
            if reading.session != session:
                continue
            for step in reading.steps:
                if not isinstance(step, Got):
                    continue
                event = step.event
                whose, first = seen.setdefault(event.offset, (reading.who, event))
                if not _alike(first, event):
                    what = f"{reading.who} and {whose} have different events of {session} there"
                    yield Verdict("unlike", what, (event.offset,))
                elif whose != "the log" and event.type not in PASSING:
                    what = f"{reading.who} got {event.type} of {session}, which is not stored"
                    yield Verdict("invented", what, (event.offset,))


def _alike(one: Event, other: Event) -> bool:
    same = (one.id, one.type, one.actor, one.run, one.at) == (other.id, other.type, other.actor, other.run, other.at)
    return same and one.body == other.body


def in_order(reading: Reading) -> Iterator[Verdict]:
    """Offsets rise, from where the reader began; after a rewind, from there."""
    if reading.once:
        yield from _each_once(reading)
        return
    cursor, had = "", set[str]()
    for step in reading.steps:
        match step:
            case Opened(after=after):
                cursor = "" if after == "start" else after
            case Rewound(to=to):
                cursor = min(cursor, to)
            case Got(event=event):
                if event.offset <= cursor:
                    twice = event.offset in had
                    what = "came twice" if twice else f"came behind {cursor}"
                    rule = "doubled" if twice else "order"
                    yield Verdict(rule, f"{reading.who}, {reading.session}: {event.type} {what}", (event.offset,))
                cursor = max(cursor, event.offset)
                had.add(event.offset)
            case Marked():
                pass


def _each_once(reading: Reading) -> Iterator[Verdict]:
    """No offset comes twice. Each step back is one that a rewind or a new connection had told, and each of those is
    good for one: what was missing comes then, in order."""
    cursor, had, told = "", set[str](), list[str]()
    for step in reading.steps:
        match step:
            case Opened(after=after):
                told += [after] if had else []
            case Rewound(to=to):
                told.append(to)
            case Got(event=event):
                back = next((n for n, to in enumerate(told) if to < event.offset), None)
                if event.offset in had:
                    yield Verdict("doubled", f"{_of(reading)}: {event.type} came twice", (event.offset,))
                elif event.offset <= cursor and back is None:
                    what = f"{_of(reading)}: {event.type} came behind {cursor}, and nothing had said so"
                    yield Verdict("order", what, (event.offset,))
                elif event.offset <= cursor:
                    del told[: back + 1]
                cursor = event.offset
                had.add(event.offset)
            case Marked(offset=offset):
                told = [to for to in told if to >= offset]  # what was told before it is settled


def _of(reading: Reading) -> str:
    return f"{reading.who}, {reading.session}"


def in_turn(history: History) -> Iterator[Verdict]:
    """What one client appends to a session is stored in the order of its calls."""
    clients = {reading.who for reading in history.readings if reading.once}
    newest = dict[tuple[str, str], Call]()
    for call in sorted(history.calls, key=lambda call: call.invoked):
        if call.who not in clients or call.what != "note" or call.offset is None:
            continue
        before = newest.setdefault((call.who, call.session), call)
        if call.offset < before.offset:
            what = f"{call.who}: {call.id} is stored before {before.id}, which it had called for first"
            yield Verdict("order", what, (call.offset, before.offset))
        newest[call.who, call.session] = call


def complete(reading: Reading, stored: Sequence[Event]) -> Iterator[Verdict]:
    """At each mark, and at its end, a reader has all that is stored up to there and stays."""
    first = next((step.after for step in reading.steps if isinstance(step, Opened)), "start")
    begin = "" if first == "start" else first
    wanted = [event.offset for event in stored if event.type not in PASSING and event.offset > begin]
    had, at = set[str](), 0
    for step in reading.steps:
        if isinstance(step, Got):
            had.add(step.event.offset)
        elif isinstance(step, Marked):
            missing = []
            while at < len(wanted) and wanted[at] <= step.offset:
                if wanted[at] not in had:
                    missing.append(wanted[at])
                at += 1
            if missing:
                what = f"{reading.who}, {reading.session}: {len(missing)} lacked at the mark {step.offset}"
                yield Verdict("lost", what, tuple(missing[:_NAMED]))
    if reading.upto is not None:
        missing = [offset for offset in wanted if offset <= reading.upto and offset not in had]
        if missing:
            what = f"{reading.who}, {reading.session}: {len(missing)} never came"
            yield Verdict("lost", what, tuple(missing[:_NAMED]))


def retried(calls: Sequence[Call]) -> Iterator[Verdict]:
    """One id of a session was acknowledged at one offset, whoever asked and however often."""
    first = dict[tuple[str, str], Call]()
    for call in calls:
        if call.outcome != "ok" or call.offset is None:
            continue
        known = first.setdefault((call.session, call.id), call)
        if known.offset != call.offset:
            what = f"{call.id} was acknowledged at two offsets"
            yield Verdict("doubled", what, (str(known.offset), call.offset))
