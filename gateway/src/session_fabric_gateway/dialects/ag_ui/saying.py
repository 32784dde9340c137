"""The events of AG-UI that the gateway says itself. Pure."""

from __future__ import annotations

from typing import Any, Final

from session_fabric import FabricError
from session_fabric.rules.requests import derived

from session_fabric_gateway.codes import facts_of

Said = dict[str, Any]

PROTOCOL_VERSION: Final = "1.0"


def snapshot(messages: list[dict[str, Any]]) -> Said:
    """Say what a conversation consists of."""
    return {"type": "MESSAGES_SNAPSHOT", "messages": messages}


def finished(outcome: Said, thread: str, run: str, **more: Any) -> Said:
    """Say that a run has ended, or (`interrupt`) that it waits for an answer."""
    return {"type": "RUN_FINISHED", "threadId": thread, "runId": run, "outcome": outcome, **more}


def started(thread: str, run: str, parent: str | None = None) -> Said:
    """Say that a run has begun."""
    whose = {} if parent is None else {"parentRunId": parent}
    return {"type": "RUN_STARTED", "threadId": thread, "runId": run, **whose, "protocolVersion": PROTOCOL_VERSION}


def failed(message: str, code: str, thread: str, run: str) -> Said:
    """Say that a run has failed. TanStack's clients find out by its metadata whose failure it is."""
    names = {"threadId": thread, "runId": run}
    return {"type": "RUN_ERROR", "message": message, "code": code, "metadata": {"tanstack": names}}


def failure(error: FabricError, thread: str, run: str) -> Said:
    """Say an error of ours as a run's."""
    return failed(str(error), facts_of(error)["code"], thread, run)


def thoughts_of(message: str) -> str:
    """Return the id of the message of what was thought beside another."""
    return derived(message, "reasoning")
