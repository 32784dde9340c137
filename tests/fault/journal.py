"""What each process notes, line by line, in a file of its own; and the history that all files together are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tests.fault.history import (
    Call,
    Event,
    Fault,
    Got,
    History,
    Life,
    Marked,
    Members,
    Opened,
    Reading,
    Rewound,
    Step,
)


class Journal:
    """An append-only file of JSON lines: each is with the kernel before the call returns, so that a process that is
    killed leaves all that it noted."""

    def __init__(self, directory: Path, who: str) -> None:
        self.who = who
        self._file = os.open(directory / f"{who}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, kind: str, **more: Any) -> None:
        line = orjson.dumps({"kind": kind, "who": self.who, "at": time.monotonic(), **more}) + b"\n"
        os.write(self._file, line)

    # --- words for readers ------------------------------------------------------------------------

    def opened(self, reader: str, session: str, after: str) -> None:
        self.note("opened", reader=reader, session=session, after=after)

    def got(self, reader: str, session: str, events: Iterable[Event]) -> None:
        self.note("got", reader=reader, session=session, events=[asdict(event) for event in events])

    def rewound(self, reader: str, session: str, to: str) -> None:
        self.note("rewound", reader=reader, session=session, to=to)

    def marked(self, reader: str, session: str, offset: str) -> None:
        self.note("marked", reader=reader, session=session, offset=offset)


def lines(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield all that was noted, file by file; the last line of a process that was killed may be cut off."""
    for file in sorted(directory.glob("*.jsonl")):
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def collect(directory: Path) -> History:
    """Return the history that a directory of journals holds."""
    return _Collected(lines(directory)).history()


class _Collected:
    def __init__(self, noted: Iterable[Mapping[str, Any]]) -> None:
        self.readings: dict[tuple[str, str], list[Step]] = {}
        self.upto: dict[tuple[str, str], str] = {}
        self.once: set[str] = set()
        self.calls: dict[tuple[str, int], dict[str, Any]] = {}
        self.lives: dict[str, Life] = {}
        self.killed: dict[str, float] = {}
        self.faults: list[Fault] = []
        self.stored: dict[str, list[Event]] = {}
        self.plans: dict[str, str] = {}
        self.members: list[Members] = []
        self.load = [0.0, 0.0]
        self.wall = 0.0
        for line in noted:
            self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        match line["kind"]:
            case "opened":
                self.once |= {line["reader"]} if line.get("once") else set()
                self._step(line, Opened(line["at"], line["after"]))
            case "got":
                for event in line["events"]:
                    self._step(line, Got(line["at"], Event(**event)))
            case "rewound":
                self._step(line, Rewound(line["at"], line["to"]))
            case "marked":
                self._step(line, Marked(line["at"], line["offset"]))
            case "upto":
                self.upto[line["reader"], line["session"]] = line["offset"]
            case "invoked":
                self.calls[line["who"], line["call"]] = {**line, "outcome": "unknown", "done": None}
            case "done":
                self.calls[line["who"], line["call"]] |= {**line, "done": line["at"]}
            case "plan":
                self.plans[line["run"]] = line["text"]
            case "began":
                for participant in line["participants"]:
                    key = f"{line['process']} {participant}"
                    self.lives[key] = Life(line["process"], participant, line["at"])
            case "killed":
                self.killed[line["process"]] = line["at"]
            case "fault":
                self.faults.append(Fault(line["fault"], line["target"], line["begun"], line["over"]))
            case "stored":
                self.stored.setdefault(line["session"], []).extend(Event(**event) for event in line["events"])
            case "members":
                found, expected = (frozenset((p, d) for p, d in line[name]) for name in ("found", "expected"))
                self.members.append(Members(line["session"], found, expected))
            case "load":
                self.load = [line["begun"], line["over"]]
            case "clock":
                self.wall = line["wall"]
            case _:
                pass

    def _step(self, line: Mapping[str, Any], step: Step) -> None:
        self.readings.setdefault((line["reader"], line["session"]), []).append(step)

    def history(self) -> History:
        # What the broker's clock said, in the time of everything else.
        stored = {
            name: [Event(**{**asdict(e), "ts": e.ts / 1000 - self.wall}) for e in events]
            for name, events in self.stored.items()
        }
        return History(
            calls=[_call(call) for call in self.calls.values()],
            readings=[
                Reading(who, session, steps, self.upto.get((who, session)), who in self.once)
                for (who, session), steps in self.readings.items()
            ],
            stored=stored,
            plans=self.plans,
            faults=self.faults,
            lives=[Life(x.who, x.participant, x.begun, self.killed.get(x.who)) for x in self.lives.values()],
            members=self.members,
            load=(self.load[0], self.load[1]),
        )


def _call(noted: Mapping[str, Any]) -> Call:
    return Call(
        who=noted["who"],
        participant=noted["participant"],
        session=noted["session"],
        what=noted["what"],
        id=noted["id"],
        invoked=noted["at"],
        done=noted["done"],
        outcome=noted["outcome"],
        offset=noted.get("offset"),
        about=noted.get("about"),
        winner=noted.get("winner"),
    )


class Calls:
    """Notes what is asked for and what comes of it, in a process's journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._count = 0

    def invoked(self, what: str, id: str, session: str, participant: str, about: str | None = None) -> int:
        """Note that something is asked for, before it is; return its number for `done`."""
        self._count += 1
        self._journal.note(
            "invoked", call=self._count, what=what, id=id, session=session, participant=participant, about=about
        )
        return self._count

    def done(self, call: int, outcome: str, offset: str | None = None, winner: str | None = None) -> None:
        self._journal.note("done", call=call, outcome=outcome, offset=offset, winner=winner)
