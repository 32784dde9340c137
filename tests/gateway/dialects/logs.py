"""Logs of a run, as the broker has them: what was said, in pieces, with all that comes between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import strategies as st
from session_fabric.words.events import REASONING_CONTENT, TEXT_CONTENT, TOOL_ARGS, utf16_length
from session_fabric.words.wire import Record

from tests.gateway.records import record

RUN = "run-1"
TEXTS = st.lists(st.text(alphabet='ab \\"\n🙂é', min_size=1, max_size=6), min_size=1, max_size=5)


@dataclass
class Log:
    """Writes a run's events, one behind the other."""

    run: str = RUN
    records: list[Record] = field(default_factory=list)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(
        self, type: str, *, kind: Any = "ev", name: str = "_", more: Mapping[str, Any] | None = None, **body: Any
    ) -> Record:
        one = record(
            len(self.records) + 1,
            type,
            body={"type": type, **body, **(more or {})},
            kind=kind,
            name=self.run if kind in ("own", "tok") and name == "_" else name,
            **{"Sf-Run": self.run},
        )
        self.records.append(one)
        return one

    def started(self, **body: Any) -> None:
        self.add("RUN_STARTED", kind="own", runId=self.run, **body)

    def finished(self, outcome: str = "success", **body: Any) -> None:
        self.add("RUN_FINISHED", kind="own", runId=self.run, outcome={"type": outcome}, **body)

    def begin(self, message: str, role: str = "assistant") -> None:
        self.add("TEXT_MESSAGE_START", kind="tok", messageId=message, role=role)

    def piece(self, of: str, text: str, type: str = TEXT_CONTENT) -> None:
        before = self.texts.get((of, type), "")
        self.texts[of, type] = before + text
        headers = {"Sf-Delta": f"{utf16_length(before)} {of}"}
        self.records.append(
            record(len(self.records) + 1, type, kind="tok", name=self.run, payload=orjson.dumps(text), **headers)
        )

    def think(self, message: str, text: str) -> None:
        self.piece(message, text, REASONING_CONTENT)

    def snapshot(self, message: str) -> None:
        self.add("message.snapshot", message=self._message(message))

    def complete(self, message: str) -> None:
        self.add("TEXT_MESSAGE_END", kind="tok", messageId=message)
        self.add("message.completed", message=self._message(message))

    def _message(self, id: str) -> dict[str, Any]:
        said = {"id": id, "role": "assistant", "content": self.texts.get((id, TEXT_CONTENT), "")}
        thought = self.texts.get((id, REASONING_CONTENT))
        return said if thought is None else {**said, "reasoning": thought}

    def call(self, call: str, name: str, args: str, *, streamed: bool = False, parent: str = "m0") -> None:
        self.add("TOOL_CALL_START", toolCallId=call, toolCallName=name, parentMessageId=parent)
        if streamed:
            for at in range(0, len(args), 3):
                self.piece(call, args[at : at + 3], TOOL_ARGS)
            self.add("TOOL_CALL_END", toolCallId=call, args=args)
        else:
            self.add("TOOL_CALL_ARGS", toolCallId=call, delta=args)
            self.add("TOOL_CALL_END", toolCallId=call)

    def result(self, call: str, content: str) -> None:
        self.add("TOOL_CALL_RESULT", messageId=f"{call}-result", toolCallId=call, role="tool", content=content)


def stored(records: Sequence[Record]) -> list[Record]:
    """Return what is left of a log to who reads it later: deltas that a later event covers are gone."""
    covered: dict[str, int] = {}
    for at, one in enumerate(records):
        if one.type in ("message.completed", "message.snapshot"):
            covered[orjson.loads(one.payload)["message"]["id"]] = at
        elif one.type == "TOOL_CALL_END" and "args" in orjson.loads(one.payload):
            covered[orjson.loads(one.payload)["toolCallId"]] = at
    return [one for at, one in enumerate(records) if one.delta is None or at > covered.get(one.delta.message, -1)]


@st.composite
def logs(draw: st.DrawFn, *, ends: bool = True) -> Log:
    """A run of some messages, with thoughts, tools and snapshots between."""
    log = Log()
    log.started()
    for number in range(draw(st.integers(1, 3))):
        message = f"m{number}"
        log.begin(message)
        if draw(st.booleans()):
            for text in draw(TEXTS):
                log.think(message, text)
        if draw(st.booleans()):
            log.call(f"c{number}", "look", '{"q":"x"}', streamed=draw(st.booleans()))
            log.result(f"c{number}", '{"found":1}')
        for text in draw(TEXTS):
            log.piece(message, text)
            if draw(st.integers(0, 3)) == 0:
                log.snapshot(message)
        if draw(st.integers(0, 2)) == 0:
            log.add("CUSTOM", name="progress", value=number)
        if draw(st.integers(0, 3)):
            log.complete(message)
        else:
            log.snapshot(message)
    if ends:
        log.finished()
    return log


@st.composite
def readings(draw: st.DrawFn, log: Log) -> list[Record]:
    """A way in which a log comes: what is stored up to somewhere, then live, some of it again after rewinds."""
    cut = draw(st.integers(0, len(log.records)))
    came = stored(log.records[:cut])
    rest = log.records[cut:]
    while rest:
        size = draw(st.integers(1, len(rest)))
        lost = draw(st.sets(st.integers(0, size - 1), max_size=2))
        # What is behind a hole of its own subject waits for it (rules.splice).
        holes = {rest[at].subject: at for at in sorted(lost, reverse=True)}
        batch = [one for at, one in enumerate(rest[:size]) if at < holes.get(one.subject, size)]
        if lost:  # a hole is found, and filled: at the latest before the end of a run is told
            again = rest[min(lost) : size]
            ends = [one for one in batch if one.type == "RUN_FINISHED"]
            batch = [one for one in batch if one not in ends] + [one for one in again if one.type != "RUN_FINISHED"]
            batch += ends or again[-1:]
        came += batch
        rest = rest[size:]
    return came
