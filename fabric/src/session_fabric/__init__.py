"""Session Fabric: durable sessions for AI agents on NATS JetStream."""

from session_fabric.agents import AgentRun
from session_fabric.dead_letters import DeadLetter
from session_fabric.erasure import Erasure
from session_fabric.fabric import Fabric, SessionsPage
from session_fabric.history import Messages, Page
from session_fabric.jetstream.credentials import Credentials
from session_fabric.keeping import Kept
from session_fabric.keyring import Keys
from session_fabric.records import SessionRecord
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
    "AgentRun",
    "Answer",
    "Appended",
    "Approval",
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
    "Request",
    "Retention",
    "Run",
    "RunFailed",
    "Session",
    "SessionRecord",
    "SessionsPage",
    "Signal",
    "State",
    "Subscription",
    "Work",
]
