"""Every golden transcript folds to the messages at its end (tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from session_fabric.rules.fold import Fold
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


def read(path: Path) -> tuple[list[Event], list[dict[str, Any]]]:
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [event_of(line["event"]) for line in lines if "event" in line], lines[-1]["messages"]


def folded(events: list[Event]) -> list[dict[str, Any]]:
    fold = Fold()
    for event in events:
        fold.add(event)
    return [message.plain() for message in fold.messages()]


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 9


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_folds_to_its_messages(path: Path) -> None:
    events, messages = read(path)

    assert folded(events) == messages
    assert folded(events + events) == messages, "folding everything twice changes nothing"


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
