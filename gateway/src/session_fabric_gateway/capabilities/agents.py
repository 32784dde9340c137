"""What agents are doing in a session, how its messages find them, and what they are told besides."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, Literal

from session_fabric import Offset
from session_fabric.rules.messages import Run

from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked, Object


class SetPolicy(Asked):
    op: Literal["policy"]
    policy: Object


class Runs(Asked):
    op: Literal["runs"]


class Whisper(Asked):
    """`event` is the whisper's event id, for trying again."""

    op: Literal["whisper"]
    text: str
    run: str | None = None
    event: str | None = None


async def _policy(ask: Ask, operation: SetPolicy) -> Answer:
    await ask.session.record(create=False)
    policy = await ask.session.set_policy(**operation.policy)
    return Answer("ok", {"policy": policy.model_dump()})


async def _runs(ask: Ask, _: Runs) -> Answer:
    runs = await ask.session.runs()
    return Answer("runs", {"runs": [run_json(run) for run in runs]})


def run_json(run: Run) -> dict[str, Any]:
    """Spell a run of the projection."""
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    return {name: str(value) if isinstance(value, Offset) else value for name, value in fields.items()}


async def _whisper(ask: Ask, operation: Whisper) -> Answer:
    await ask.session.record(create=False)
    offset, duplicate = await ask.session.whisper(operation.text, run=operation.run, id=operation.event)
    return Answer("appended", {"offset": str(offset), "duplicate": duplicate}, 201)


CAPABILITIES: Final = (
    Capability(
        SetPolicy, _policy, "policy", Http("PUT", "/policy", "Set what becomes of messages while an agent is at work")
    ),
    Capability(Runs, _runs, "read", Http("GET", "/runs", "List a session's runs, oldest first")),
    Capability(
        Whisper, _whisper, "supervise", Http("POST", "/whispers", "Tell the agents something that users do not see")
    ),
)
