"""Makes histories in which every promise is kept, and a lot happens: takeovers, rewinds, readers that resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from tests.fault.history import (
    PASSING,
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
from tests.fault.run_rules import run_of

WORDS = ("Lorem ", "ipsum é, ", "dolor 😀 ", "sit ", "amet. ")


class Scene:
    """One session as it happens; `now` goes on by a little with each event."""

    def __init__(self, name: str, rng: Random) -> None:
        self.name = name
        self.rng = rng
        self.now = 100.0
        self.log: list[Event] = []
        self.calls: list[Call] = []
        self.plans: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.lives = {"w1": Life("w1.1", "agent:w1", 90.0), "w2": Life("w2.1", "agent:w2", 90.0)}
        self.floor = 0

    def add(self, type: str, actor: str, *, id: str | None = "", run: str | None = None, **more: Any) -> Event:
        self.now += self.rng.uniform(0.01, 0.4)
        number = len(self.log) + 1
        at = more.pop("at", None)
        id = f"{self.name}-e{number}" if id == "" else id
        body = {"type": type, **more}
        event = Event(f"1764000000000000_{number:016d}", id, type, actor, run, at, self.now, body)
        self.log.append(event)
        return event

    def call(self, event: Event, what: Any, **more: Any) -> None:
        self.calls.append(
            Call(
                "p1.1",
                event.actor,
                self.name,
                what,
                str(event.id),
                event.ts - 0.01,
                event.ts + 0.01,
                "ok",
                event.offset,
            )
        )
        if more:
            self.calls[-1] = replace(self.calls[-1], **more)

    def note(self) -> None:
        who = self.rng.choice(["p1.1", f"b2-{self.name}"])
        self.call(self.add("app.note", "user:n1", value=len(self.log)), "note", who=who)

    def answered(self) -> None:
        self.ask(killed=False)

    def ask(self, *, killed: bool) -> None:
        """A question and its answer; `killed`: the first who answers dies of it, and the second goes on."""
        asked = self.add("message.user", "user:n1", message={"id": f"q{len(self.log)}"})
        self.call(asked, "ask")
        run, message = run_of(str(asked.id)), f"m-{asked.id}"
        plan = "".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(4, 12)))
        self.plans[run] = plan
        self.add("RUN_STARTED", "agent:w1", run=run, agent="agent:w1", generation=1)
        self.add("TEXT_MESSAGE_START", "agent:w1", id=None, run=run, messageId=message)
        cut = self.rng.randint(1, len(plan) - 1)
        self.say(run, message, "agent:w1", plan[:cut], 0)
        writer = "agent:w1"
        if killed:
            self.lives["w1"] = replace(self.lives["w1"], killed=self.now + 0.001)
            self.faults.append(Fault("kill", "w1", self.now + 0.001, self.now + 0.002))
            self.add("run.orphaned", "service:fabric", run=run, agent="agent:w1", generation=1)
            writer = "agent:w2"
            self.add("run.taken_over", writer, run=run, agent=writer, generation=2)
            self.add("message.snapshot", writer, run=run, at=0, message={"id": message, "content": plan[:cut]})
        self.approve(run, writer)
        self.say(run, message, writer, plan[cut:], len(plan[:cut].encode("utf-16-le")) // 2)
        self.add("TEXT_MESSAGE_END", writer, id=None, run=run, messageId=message)
        self.add("message.completed", writer, run=run, message={"id": message, "content": plan})
        self.add("RUN_FINISHED", writer, run=run, outcome={"type": "success"})

    def say(self, run: str, message: str, writer: str, text: str, at: int) -> None:
        while text:
            size = self.rng.randint(1, len(text))
            piece, text = text[:size], text[size:]
            self.add("TEXT_MESSAGE_CONTENT", writer, id=None, run=run, at=at, messageId=message, delta=piece)
            at += len(piece.encode("utf-16-le")) // 2

    def approve(self, run: str, writer: str) -> None:
        asked = self.add("input.requested", writer, run=run, kind="approval")
        answered = self.add("input.answered", "operator:o1", run=run, request=asked.id, by="operator:o1")
        self.call(answered, "answer", about=asked.id)
        late = replace(self.calls[-1], who="p2.1", participant="operator:o2", id=f"{answered.id}-late")
        self.calls.append(replace(late, outcome="refused", offset=None, winner="operator:o1"))

    def hand_over(self) -> None:
        """Two want the floor that is offered; one gets it."""
        offered = self.add("handoff.offered", "operator:o1", pool="default", to="role:operator", floor={})
        self.floor += 1
        floor = {"participant": "operator:o2", "holder": None, "generation": self.floor}
        got = self.add("handoff.accepted", "operator:o2", pool="default", request=offered.id, floor=floor)
        self.call(got, "floor", about=offered.id, participant="operator:o2")
        self.calls.append(replace(self.calls[-1], who="p2.2", id=f"{got.id}-again"))
        refused = replace(self.calls[-1], participant="operator:o1", id=f"{got.id}-late", outcome="refused")
        self.calls.append(replace(refused, offset=None, winner="operator:o2"))

    def stop(self) -> None:
        """A run that is claimed by two and had by one, and is cancelled in the middle of what it has to say."""
        run = f"{self.name}-race{len(self.log)}"
        self.plans[run] = "".join(WORDS)
        begun = self.add("RUN_STARTED", "agent:w2", run=run, agent="agent:w2", generation=1)
        self.call(begun, "claim", about=run, participant="agent:w2", id=run)
        self.calls.append(replace(self.calls[-1], participant="agent:w3", outcome="refused", offset=None))
        self.say(run, f"m-{run}", "agent:w2", "Lorem ipsum é", 0)
        stop = self.add("control.requested", "user:n1", action="cancel")
        self.call(stop, "cancel")
        self.add("control.accepted", "agent:w2", run=run, request=stop.id)
        self.add("message.snapshot", "agent:w2", run=run, at=13, message={"id": f"m-{run}", "content": "Lorem ipsum é"})
        self.add("RUN_FINISHED", "agent:w2", run=run, outcome={"type": "cancelled"})


def _read(scene: Scene, who: str, rng: Random) -> Reading:
    """Deliver a log to one reader: with holes that are filled after a rewind, and with connections that break."""
    steps: list[Step] = [Opened(99.0, "start")]
    log, at, marked = scene.log, 0, ""
    while at < len(log):
        event = log[at]
        fate = rng.random()
        if fate < 0.05 and 0 < at < len(log) - 2 and marked:
            hole = rng.randint(1, 2)
            steps += [Got(e.ts + 0.01, e) for e in log[at + hole : at + hole + 1]]
            steps.append(Rewound(log[min(at + hole, len(log) - 1)].ts + 0.02, log[at - 1].offset))
        elif fate < 0.1 and marked:
            steps.append(Opened(event.ts, marked))
            at = next(n for n, e in enumerate(log) if e.offset == marked) + 1
            marked = ""  # once for each mark, or it would never end
        else:
            steps.append(Got(event.ts + 0.01, event))
            at += 1
            if rng.random() < 0.3:
                marked = event.offset
                steps.append(Marked(event.ts + 0.01, marked))
    return Reading(who, scene.name, steps, upto=log[-1].offset)


def _read_once(scene: Scene, who: str, rng: Random) -> Reading:
    """Deliver a log to a reader that gets each event once: what fills a hole comes behind what is newer."""
    steps: list[Step] = [Opened(99.0, "start")]
    log, at = scene.log, 0
    while at < len(log):
        size = rng.randint(1, 4)
        some, at = log[at : at + size], at + size
        hole = rng.randint(1, len(some)) if rng.random() < 0.2 else 0
        last = some[-1]
        if 0 < hole < len(some):
            # It is told of the hole before it takes what came until then; or the connection breaks before it is.
            before = log[at - size - 1].offset if at > size else ""
            steps.append(Rewound(last.ts, before) if rng.random() < 0.5 or not before else Opened(last.ts, before))
        steps += [Got(last.ts + 0.01, event) for event in (*some[hole:], *some[:hole])]
        if rng.random() < 0.5:
            steps.append(Marked(last.ts + 0.01, last.offset))
    return Reading(who, scene.name, steps, upto=log[-1].offset, once=True)


def good(seed: int) -> History:
    """Return one, by its seed."""
    rng = Random(seed)
    scenes = [Scene(f"s{number}", rng) for number in range(2)]
    for scene in scenes:
        scene.add("session.created", "user:n1")
        scene.note()
        scene.ask(killed=True)
        acts: list[Callable[[], None]] = [scene.note, scene.note, scene.hand_over, scene.stop, scene.answered]
        for act in rng.sample(acts, len(acts)):
            act()
        scene.note()
    one = scenes[0]
    return History(
        calls=[call for scene in scenes for call in scene.calls],
        readings=[
            *(_read(scene, who, rng) for scene in scenes for who in ("f1", "b1")),
            *(_read_once(scene, f"b2-{scene.name}", rng) for scene in scenes),
        ],
        stored={scene.name: list(_kept(scene, rng)) for scene in scenes},
        plans={run: plan for scene in scenes for run, plan in scene.plans.items()},
        faults=[fault for scene in scenes for fault in scene.faults],
        lives=[one.lives["w1"], one.lives["w2"]],
        members=[Members("s0", frozenset({("user:b1", "d1")}), frozenset({("user:b1", "d1")}))],
        load=(100.0, min(scene.now for scene in scenes)),
    )


def _kept(scene: Scene, rng: Random) -> Iterator[Event]:
    """What the log still has in the end: deltas of completed messages may be gone."""
    trimmed = rng.random() < 0.5
    done = {e.run for e in scene.log if e.type == "message.completed"}
    for event in scene.log:
        if not (trimmed and event.type in PASSING and event.run in done):
            yield event
