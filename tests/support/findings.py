"""What is found of a session, made by hand: scenes for the rules of `fabricctl session show`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from session_fabric.inspection import Dead, Findings
from session_fabric.members import Kept, Shown, Who
from session_fabric.ports import Backlog
from session_fabric.records import SessionRecord
from session_fabric.rules.segments import Segment
from session_fabric.rules.states import State
from session_fabric.rules.unread import Cursor
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place

BEGAN = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC
SEGMENT = BEGAN * 1000
HOLDER = "H0000000000000000000"
PLACE = Place("acme", "chat")


class Scene:
    """A session in the making: `at` moves its clock to so many seconds after its beginning, `add` stores an event."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.found = Findings(
            record=SessionRecord(
                tenant="acme",
                session="chat",
                created=BEGAN,
                labels={"team": "red"},
                participants=("user:ada",),
                segments=(Segment(SEGMENT, "SESSIONS-03", "e", "acme", "chat"),),
            ),
            revision=7,
            head=Offset(SEGMENT, 0),
            events=[],
            whole=True,
            wrote={},
            members=[],
            holders=frozenset({HOLDER}),
            backlogs=[],
            dead=[],
            documents=[],
            cursors=[],
            traces={},
            sealed=False,
        )

    def at(self, seconds: float) -> Scene:
        self.now = BEGAN + int(seconds * 1000)
        return self

    def change(self, **fields: Any) -> Scene:
        self.found = replace(self.found, **fields)
        return self

    def add(
        self, type: str, actor: str = "agent:helper", run: str | None = None, id: str | None = None, **body: Any
    ) -> Event:
        offset = Offset(SEGMENT, len(self.found.events) + 1)
        raw = orjson.dumps({"type": type, **({} if run is None else {"run": run}), **body})
        event = Event(offset, id or f"e{offset.sequence}", type, actor, run, self.now, raw)
        self.change(events=[*self.found.events, event], head=offset)
        return event

    # --- what happens in sessions ---------------------------------------------------------------------

    def says(self, text: str, id: str = "m1", pool: str = "default") -> Event:
        message = {"id": id, "role": "user", "content": text}
        return self.add("message.user", "user:ada", id=id, message=message, pool=pool)

    def starts(self, run: str = "r1", input: Event | None = None, pool: str | None = None) -> Event:
        asked = {} if input is None else {"input": str(input.offset)}
        return self.add("RUN_STARTED", run=run, runId=run, holder=HOLDER, pool=pool, **asked)

    def completes(self, text: str, run: str = "r1", id: str = "a1") -> Event:
        return self.add("message.completed", run=run, message={"id": id, "role": "assistant", "content": text})

    def ends(self, run: str = "r1", **body: Any) -> Event:
        return self.add("RUN_FINISHED", run=run, runId=run, outcome={"type": "success"}, **body)

    def present(
        self, participant: str, *, holder: str = HOLDER, gateway: bool = True, status: str | None = None
    ) -> None:
        who = Who(PLACE, participant, "d1")
        shown = Shown({}, status)  # type: ignore[arg-type]
        kept = Kept(who.key(holder), 1, who, shown, self.now, self.now * 1000, gateway, False)
        self.change(members=[*self.found.members, kept])

    def backlog(self, name: str, *, delivered: int = 0, acknowledged: int = 0, waiting: int = 0, **more: int) -> None:
        facts = {"in_hand": 0, "again": 0, "asking": 0, **more}
        one = Backlog(name, "SESSIONS-03", "acme", None, delivered, acknowledged, waiting, **facts)
        self.change(backlogs=[*self.found.backlogs, one])


def busy_scene() -> Scene:
    """A session in which much has happened: one page of it is a golden screen."""
    scene = Scene()
    first = scene.at(1).says("What is the weather in Berlin?")
    scene.at(1.2).starts("run-a", first, "default")
    scene.at(3).add("tool.requested", run="run-a", id="q1", tool="locate", to="user:ada", deadline_ms=30_000)
    scene.at(5).add("tool.answered", "user:ada", request="q1", result={"city": "Berlin"})
    scene.at(6).completes("Sunny, 24 degrees. \x1b[31mNo rain.", "run-a")
    scene.at(6.1).ends("run-a", usage={"input_tokens": 210, "output_tokens": 12})
    second = scene.at(20).says("And tomorrow?", "m2")
    scene.at(20.5).starts("run-b", second, "default")
    scene.at(22).add("CUSTOM", run="run-b", name="thinking")
    scene.at(95).add("run.orphaned", "service:fabric", run="run-b", holder=HOLDER)
    scene.at(99).add("run.taken_over", run="run-b", generation=2, holder=HOLDER)
    scene.at(100).add("control.requested", "user:ada", id="c1", run="run-b", action="cancel", deadline_ms=5000)
    scene.at(100.02).add("control.accepted", request="c1", run="run-b")
    scene.at(100.1).add("RUN_FINISHED", run="run-b", runId="run-b", outcome={"type": "cancelled"})
    third = scene.at(110).says("Hello?", "m3")
    scene.at(110.2).starts("run-c", third, "default")
    scene.at(111).add("RUN_ERROR", run="run-c", runId="run-c", message="The agent failed.", code="dead_letter")
    scene.at(120).add("handoff.offered", id="ho-1", pool="default", to="role:operator", floor=1, deadline_ms=60_000)
    scene.at(125).add(
        "handoff.accepted", "operator:eve", pool="default", floor={"participant": "operator:eve", "generation": 2}
    )
    scene.at(130).says("Is anybody there?", "m4", "support")
    scene.at(140).starts("run-d", pool="billing")
    scene.at(141).add(
        "input.requested", run="run-d", id="q2", kind="approval", title="Refund 20 EUR?", to="role:operator"
    )
    scene.present("user:ada")
    scene.present("agent:helper", gateway=False, holder="G0000000000000000000", status="waiting")
    scene.backlog("pool-default", delivered=15, acknowledged=15, asking=1)
    scene.backlog("sf-deadlines", delivered=21, acknowledged=20, in_hand=1)
    return scene.change(
        dead=[Dead("default", "run-c", "m3")],
        documents=[State("plan", 4, {"a": 1}, "agent:helper", BEGAN + 50_000)],
        cursors=[Cursor("user:ada", "phone", Offset(SEGMENT, 6))],
        traces={first.offset: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    ).at(240)
