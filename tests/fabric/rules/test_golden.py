"""Every golden transcript folds to what stands at its end (tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from session_fabric.rules.asked import RequestFold
from session_fabric.rules.controls import ControlFold
from session_fabric.rules.floor import FloorFold
from session_fabric.rules.fold import Fold
from session_fabric.rules.presence import Present
from session_fabric.words.events import DELTA_KEYS, Event
from session_fabric.words.positions import Offset

TRANSCRIPTS = sorted((Path(__file__).parents[2] / "golden").glob("*.jsonl"))


def event_of(wire: dict[str, Any]) -> Event:
    return Event(
        offset=Offset.parse(wire["offset"]),
        id=wire.get("id", ""),
        type=wire["type"],
        actor=wire["actor"],
        run=wire["run"],
        ts=wire["ts"],
        raw=orjson.dumps(wire["body"]),
        at=wire.get("at"),
    )


def read(path: Path) -> tuple[list[Event], dict[str, Any]]:
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    end = {"superseded": [], **lines[-1]}
    end.setdefault("path", [message["id"] for message in end["messages"]])
    return [event_of(line["event"]) for line in lines if "event" in line], end


def folded(events: list[Event], end: dict[str, Any]) -> dict[str, Any]:
    """Fold events and return what an end says of it."""
    fold, floors, requests, controls, present = Fold(), FloorFold(), RequestFold(), ControlFold(), Present()
    for event in events:
        for each in (fold, floors, requests, controls, present):
            each.add(event)
    result: dict[str, Any] = {
        "messages": [message.plain() for message in fold.messages()],
        "path": [message.id for message in fold.path()],
        "superseded": [message.id for message in fold.superseded],
    }
    if "siblings" in end:
        result["siblings"] = {id: list(fold.siblings(id).ids) for id in end["siblings"]}
        assert all(fold.siblings(id).index == (ids.index(id) if ids else -1) for id, ids in end["siblings"].items())
    if "runs" in end:
        result["runs"] = [run.plain() for run in fold.runs.values()]
    if "floor" in end:
        result["floor"] = {
            pool: {**floors.state(pool).plain(), "offers": [offer.plain() for offer in floors.offers(pool)]}
            for pool in floors.pools()
        }
    if "requests" in end:
        result["requests"] = [asked.plain() for asked in requests.all()]
    if "controls" in end:
        result["controls"] = [control._asdict() for control in controls.all()]
    if "present" in end:
        result["present"] = present.members()
    return result


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 20


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_folds_to_its_end(path: Path) -> None:
    events, end = read(path)

    assert folded(events, end) == end
    assert folded(events + events, end) == end, "folding everything twice changes nothing"
    assert folded([*reversed(events), *events], end) == end, "nor does folding it backwards before"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_folds_to_its_end_when_a_rewind_brings_an_event_late(path: Path) -> None:
    events, end = read(path)

    for missed in range(len(events)):
        assert folded(events[:missed] + events[missed + 1 :] + events[missed:], end) == end


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_is_well_formed(path: Path) -> None:
    for line in path.read_bytes().splitlines()[:-1]:
        parsed = orjson.loads(line)
        assert len(parsed) == 1
        if "rewind" in parsed:
            Offset.parse(parsed["rewind"])
            continue
        wire = parsed["event"]
        assert wire["body"]["type"] == wire["type"]
        assert ("id" in wire) != ("at" in wire)
        assert wire["type"] in DELTA_KEYS or "at" not in wire
        assert set(wire) <= {"offset", "id", "type", "actor", "run", "ts", "at", "body"}
