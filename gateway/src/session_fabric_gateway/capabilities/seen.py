"""How far a participant's devices have read a session."""

from __future__ import annotations

from typing import Final, Literal

from session_fabric import Offset

from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked, RequestId


class Cursor(Asked):
    """`id` left out: no answer. `device`: over HTTP, where no connection says which one it is."""

    id: RequestId | None = None  # type: ignore[assignment]
    op: Literal["cursor"]
    offset: str
    device: str | None = None


async def _cursor(ask: Ask, operation: Cursor) -> Answer:
    connection = ask.connection
    device = operation.device if operation.device is not None else ask.device or "default"
    offset = await ask.session.seen(
        Offset.parse(operation.offset), device=device, connection=None if connection is None else connection.id
    )
    return Answer("ok", {"offset": str(offset)})


CAPABILITIES: Final = (Capability(Cursor, _cursor, "cursor", Http("PUT", "/cursor", "Say how far a device has read")),)
