"""Changing what becomes of messages that come while an agent is at work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_fabric.parts import Parts
from session_fabric.rules.policy import Policy, parse_policy
from session_fabric.words.errors import Forbidden
from session_fabric.words.events import SESSION_POLICY
from session_fabric.words.names import new_id


async def change(parts: Parts, changes: Mapping[str, Any]) -> Policy:
    """Change a session's policy, the fields that are named; see `Session.set_policy`."""
    if parts.identity.role == "user":
        raise Forbidden("A user cannot change a session's policy.", hint="Agents, operators and services can.")
    record = await parts.open()
    parse_policy({**record.policy.model_dump(), **changes})
    new = await parts.directory.change(
        parts.place, lambda r: r.model_copy(update={"policy": parse_policy({**r.policy.model_dump(), **changes})})
    )
    event = {"type": SESSION_POLICY, "policy": new.policy.model_dump()}
    await parts.writer.append(new.stretch, event, id=new_id(), since=None, own=True)
    return new.policy
