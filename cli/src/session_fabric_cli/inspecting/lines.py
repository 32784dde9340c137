"""One event a line: for people, and as JSON or YAML for programs; and which events are wanted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import orjson
from session_fabric.words.events import DELTA_KEYS, RUN_OVER, Event

from session_fabric_cli.options import Output
from session_fabric_cli.printing import moment, one_line


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events to show: of one run, of these types (`message.*`), of these participants (`user:*`); empty: all.

    `deltas`: the pieces of texts too, which are left out else, since the whole follows.
    """

    run: str | None = None
    types: Sequence[str] = ()
    participants: Sequence[str] = ()
    deltas: bool = False

    def takes(self, event: Event) -> bool:
        if event.at is not None and not self.deltas:
            return False
        if self.run is not None and event.run != self.run and event.body.get("run") != self.run:
            return False
        if self.types and not any(fnmatchcase(event.type, pattern) for pattern in self.types):
            return False
        return not self.participants or any(fnmatchcase(event.actor, pattern) for pattern in self.participants)

    def is_end(self, event: Event) -> bool:
        """Say whether a run that is waited for has ended."""
        return event.type in RUN_OVER and self.run in (None, event.run)


def line(event: Event, output: Output) -> str:
    """Write an event as one line; YAML as one document."""
    if output == "table":
        return as_text(event)
    if output == "json":
        return orjson.dumps(fields(event)).decode()
    import yaml

    value = {**fields(event), "body": event.body}
    return f"---\n{yaml.safe_dump(value, sort_keys=False, allow_unicode=True)}".rstrip("\n")


def fields(event: Event) -> dict[str, Any]:
    """Spell an event as docs/cli.md does."""
    return {
        "offset": str(event.offset),
        "id": event.id,
        "type": event.type,
        "actor": event.actor,
        "run": event.run,
        "ts": event.ts,
        **({} if event.at is None else {"at": event.at}),
        "body": orjson.Fragment(event.raw),
    }


def as_text(event: Event) -> str:
    body = event.body
    if event.type in DELTA_KEYS:
        said = one_line(orjson.dumps(body.get("delta", "")).decode())
    elif isinstance(message := body.get("message"), dict):
        said = one_line(str(message.get("content", "")))
    else:
        rest = {k: v for k, v in body.items() if k not in ("type", "timestamp")}
        said = one_line(orjson.dumps(rest).decode()) if rest else ""
    return f"{event.offset}  {moment(event.ts)}  {one_line(event.actor):<16} {one_line(event.type):<22} {said}"
