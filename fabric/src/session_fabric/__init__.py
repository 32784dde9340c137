"""Session Fabric: durable sessions for AI agents on NATS JetStream."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_fabric.absences import Absence
    from session_fabric.agents import AgentRun
    from session_fabric.authoring import Steer
    from session_fabric.checkpoints import Checkpoints
    from session_fabric.dead_letters import DeadLetter
    from session_fabric.erasure import Erasure
    from session_fabric.fabric import Fabric
    from session_fabric.history import Messages, Page
    from session_fabric.jetstream.credentials import Credentials
    from session_fabric.keeping import Kept
    from session_fabric.keyring import Keys
    from session_fabric.listing import SessionsPage
    from session_fabric.records import SessionRecord
    from session_fabric.redacting.finding import Redactable
    from session_fabric.redacting.proof import Redaction
    from session_fabric.rules.holds import Hold
    from session_fabric.rules.messages import Message
    from session_fabric.rules.requests import Answer, Approval, Claim, Request
    from session_fabric.rules.retention import Retention
    from session_fabric.rules.states import State
    from session_fabric.rules.unread import Cursor
    from session_fabric.run import Run, RunFailed
    from session_fabric.session import Session
    from session_fabric.states import Document
    from session_fabric.subscription import Subscription, Work
    from session_fabric.words.errors import FabricError
    from session_fabric.words.events import Event
    from session_fabric.words.positions import Offset
    from session_fabric.words.signals import Signal
    from session_fabric.writer import Appended

__all__ = [
    "Absence",
    "AgentRun",
    "Answer",
    "Appended",
    "Approval",
    "Checkpoints",
    "Claim",
    "Credentials",
    "Cursor",
    "DeadLetter",
    "Document",
    "Erasure",
    "Event",
    "Fabric",
    "FabricError",
    "Hold",
    "Kept",
    "Keys",
    "Message",
    "Messages",
    "Offset",
    "Page",
    "Redactable",
    "Redaction",
    "Request",
    "Retention",
    "Run",
    "RunFailed",
    "Session",
    "SessionRecord",
    "SessionsPage",
    "Signal",
    "State",
    "Steer",
    "Subscription",
    "Work",
]

# Whoever wants one room of this package need not wait for all of them: names are looked up when they are asked for.
_ROOMS = {
    "Absence": "absences",
    "AgentRun": "agents",
    "Answer": "rules.requests",
    "Appended": "writer",
    "Approval": "rules.requests",
    "Checkpoints": "checkpoints",
    "Claim": "rules.requests",
    "Credentials": "jetstream.credentials",
    "Cursor": "rules.unread",
    "DeadLetter": "dead_letters",
    "Document": "states",
    "Erasure": "erasure",
    "Redactable": "redacting.finding",
    "Redaction": "redacting.proof",
    "Event": "words.events",
    "Fabric": "fabric",
    "FabricError": "words.errors",
    "Hold": "rules.holds",
    "Kept": "keeping",
    "Keys": "keyring",
    "Message": "rules.messages",
    "Messages": "history",
    "Offset": "words.positions",
    "Page": "history",
    "Request": "rules.requests",
    "Retention": "rules.retention",
    "Run": "run",
    "RunFailed": "run",
    "Session": "session",
    "SessionRecord": "records",
    "SessionsPage": "listing",
    "Signal": "words.signals",
    "State": "rules.states",
    "Steer": "authoring",
    "Subscription": "subscription",
    "Work": "subscription",
}


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{room}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
