"""Browsers' stand-ins: devices that follow, write and answer over a gateway's socket, as docs/protocol.md says."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random
from typing import Any, Final

import jwt
import orjson

from tests.fault.history import Event
from tests.fault.journal import Calls, Journal
from tests.fault.process import Part
from tests.support.crowd import Client
from tests.support.waiting import eventually

_EACH: Final = 2
_NOTE_S: Final = 0.5
_ALIVE_S: Final = 12 * 3600  # longer than any trial, and than steps of gateways' clocks
_READ_S: Final = 60.0
# What the gateway says of its own heartbeat, and time for what is under way.
_SILENT_S: Final = 4.0
_AGAIN_S: Final = 0.3
_CALLS: Final = 1_000_000


def token_for(participant: str, secret: str) -> str:
    """Return what a participant shows to gateways."""
    claims = {"sub": participant, "tenant": "default", "exp": int(time.time() + _ALIVE_S)}
    return jwt.encode(claims, secret, algorithm="HS256")


class Device(Client):
    """One device with one session open. It notes all frames that it gets, and leaves a connection that is silent."""

    def __init__(self, part: Part, session: str, number: int) -> None:
        participant = f"user:{part.host}"
        self.device = f"{part.host}-{session}-{number}"
        self.shown = number == 0
        super().__init__(part.start.port, session, participant, self.device, presence=self.shown)
        self.reader = f"{part.who}/{session}-{number}"
        self._token = token_for(participant, part.start.secret)
        self._part = part
        self._calls = Calls(_Named(part.start.directory, part.who, self.reader))
        self._asked: dict[int, int] = {}
        self._of_note: dict[str, int] = {}
        self._heard = time.monotonic()

    # --- what it notes ------------------------------------------------------------------------------

    def credentials(self) -> str:
        return self._token

    def up(self) -> None:
        self._part.journal.opened(self.reader, self.session, self._resume() or "start")
        self._heard = time.monotonic()
        super().up()

    def pong(self) -> None:
        self._heard = time.monotonic()
        super().pong()

    def frame(self, data: bytes) -> None:
        self._heard = time.monotonic()
        frame = orjson.loads(data)
        match frame["op"]:
            case "events":
                events = _unfolded(frame["events"])
                self._part.journal.got(self.reader, self.session, events)
                for event in events:
                    if event.type == "tool.requested":
                        self._answer(str(event.id))
            case "rewind":
                self._part.journal.rewound(self.reader, self.session, frame["to"])
            case "mark":
                self._part.journal.marked(self.reader, self.session, frame["offset"])
            case "appended" if frame["id"] in self._unanswered:
                id = self._unanswered[frame["id"]][0]
                self._calls.done(self._of_note.pop(id), "ok", offset=frame["offset"])
            case "answered":
                if (call := self._asked.pop(frame["id"], None)) is not None:
                    self._calls.done(call, "ok", offset=frame["offset"])
            case "error" if frame.get("id") in self._asked:
                self._refused(frame)
                return
            case "error" if frame.get("id") in self._unanswered and frame.get("retryable"):
                asyncio.get_running_loop().call_later(_AGAIN_S, self._again, frame["id"])
            case _:
                pass
        super().frame(data)

    # --- what it does -------------------------------------------------------------------------------

    def note(self, id: str) -> None:
        self._of_note[id] = self._calls.invoked("note", id, self.session, self.participant)
        self.append(id, {"type": "app.note", "value": id})

    def _answer(self, request: str) -> None:
        """Answer a tool's request; others do too. What has no answer when the connection breaks stays unknown."""
        if not self.live.is_set():
            return  # it may have been long ago
        number, id = _CALLS + len(self._asked) + self._numbers, f"{request}-{self.reader.replace('/', '-')}"
        while number in self._asked:
            number += 1
        self._asked[number] = self._calls.invoked("answer", id, self.session, self.participant, about=request)
        frame = {"op": "answer", "id": number, "session": self.session, "request": request, "body": id, "event": id}
        self._send(frame)

    def _refused(self, frame: dict[str, Any]) -> None:
        call = self._asked.pop(frame["id"])
        known = not frame.get("retryable") and frame["code"] != "draining"
        # Two devices of one person: who was first is said of the person.
        self._calls.done(call, "refused" if known else "unknown", winner=frame.get("by") if known else None)

    def _again(self, number: int) -> None:
        if number in self._unanswered and self.live.is_set():
            self._send_append(number, again=True)

    def look(self) -> None:
        """Leave a connection on which nothing has come for longer than the gateway's heartbeat."""
        if self.live.is_set() and time.monotonic() - self._heard > _SILENT_S:
            self._heard = time.monotonic()
            self._leave("broken")


class _Named(Journal):
    """The process's journal in another name: each device counts its own calls."""

    def __init__(self, directory: Path, who: str, name: str) -> None:
        super().__init__(directory, who)
        self.who = name


def _unfolded(events: list[dict[str, Any]]) -> list[Event]:
    """Give each event the fields that are left out where they equal the one before."""
    out, before = [], dict[str, Any]()
    for event in events:
        before |= {name: event[name] for name in ("type", "actor", "run", "ts") if name in event}
        out.append(
            Event(
                offset=event["offset"],
                id=event.get("id"),
                type=before["type"],
                actor=before["actor"],
                run=before["run"],
                at=event.get("at"),
                ts=before["ts"],
                body=event["body"],
            )
        )
    return out


async def browse(part: Part) -> None:
    """Be several devices, until told up to where to read; end when they have all of it."""
    devices = [Device(part, session, number) for session in part.sessions for number in range(_EACH)]
    rng = Random(f"{part.start.seed} {part.who}")
    for device in devices:
        device.start()
    await part.ready()
    writing = asyncio.create_task(_write(part, devices, rng))
    looking = asyncio.create_task(_look(devices))
    try:
        await part.until_told("quiet")
        writing.cancel()
        await eventually(lambda: not any(device.waiting for device in devices), _READ_S)
        part.say({"quiet": True})
        upto = await part.until_told("upto")
        await eventually(lambda: all((d.mark or "") >= upto[d.session] for d in devices), _READ_S)
    finally:
        part.say(
            {
                "read": {d.reader: [d.session, d.mark] for d in devices},
                "shown": [[d.session, d.device] for d in devices if d.shown],
                "faults": [f for d in devices for f in d.faults],
            }
        )
        await part.until_told("leave")
        looking.cancel()
        for device in devices:
            device.stop()


async def _write(part: Part, devices: list[Device], rng: Random) -> None:
    count = 0
    while True:
        await asyncio.sleep(_NOTE_S * rng.uniform(0.5, 1.5) / 2)
        count += 1
        device = rng.choice(devices)
        if device.waiting < 20:
            device.note(f"note-{part.who}-{count}")


async def _look(devices: list[Device]) -> None:
    while True:
        await asyncio.sleep(0.5)
        for device in devices:
            device.look()
