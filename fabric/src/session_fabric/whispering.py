"""Telling a session's agents something that its users do not see."""

from __future__ import annotations

from typing import Any

from session_fabric.parts import Parts
from session_fabric.rules.audience import check_whisper
from session_fabric.words.errors import RunClosed
from session_fabric.words.events import RUN_OVER, WHISPER
from session_fabric.words.names import check_id, new_id
from session_fabric.writer import Appended


async def whisper(parts: Parts, text: str, run: str | None, id: str | None) -> Appended:
    """Say something to one run, or to every run of the session; see `Session.whisper`."""
    check_whisper(parts.identity.role, text)
    record = await parts.open()
    event: dict[str, Any] = {"type": WHISPER, "text": text}
    if run is not None:
        newest = await parts.newest_own(record, check_id(run, "run"))
        if newest is not None and newest.type in RUN_OVER:
            raise RunClosed(f"Run {run!r} has ended.", run=run)
        event["run"] = run
    id = check_id(new_id() if id is None else id, "event id")
    return await parts.writer.append(record.stretch, event, id=id, since=None, own=True)
