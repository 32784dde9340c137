"""AG-UI's events of a framework as a run's content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from ag_ui.core import BaseEvent

from session_fabric import AgentRun
from session_fabric.frameworks.running import count, given_up
from session_fabric.words.errors import InvalidEvent

# What may be written: text of the current message, or an event of AG-UI 1.0 (a model of ag_ui.core, or its JSON).
Piece = str | Mapping[str, Any] | BaseEvent

_CHUNKS: Final = {
    "TEXT_MESSAGE_CHUNK": "TEXT_MESSAGE_CONTENT",
    "REASONING_MESSAGE_CHUNK": "REASONING_MESSAGE_CONTENT",
}


class Writing:
    """Writes what a framework says into a run, in order.

    The run itself begins and ends: of `RUN_FINISHED` its `result` and `usage` are kept, `RUN_ERROR` is raised as
    `RunFailed`. A message that only tool calls name is begun.
    """

    def __init__(self, run: AgentRun) -> None:
        self._run = run
        self._begun: set[str] = set()

    async def all(self, pieces: AsyncIterator[Piece]) -> None:
        """Write everything of an iterator, and close it, however that ends."""
        try:
            async for piece in pieces:
                await self.write(piece)
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    async def write(self, piece: object) -> None:
        """Write one `Piece`. Raises `InvalidEvent` for anything else, and what `Run.emit` raises."""
        if isinstance(piece, str):
            await self._run.text(piece)
            return
        if isinstance(piece, BaseEvent):
            # Each event has the broker's time.
            piece = piece.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"timestamp"})
        if not isinstance(piece, Mapping):
            raise InvalidEvent(
                f"A {type(piece).__name__} is neither text nor an event.",
                hint="Yield text, AG-UI's events (ag_ui.core), or their JSON.",
            )
        kind = piece.get("type")
        match kind:
            case "RUN_STARTED":
                pass
            case "RUN_FINISHED":
                self._run.result = piece.get("result", self._run.result)
                count(self._run, piece.get("usage") or ())
            case "RUN_ERROR":
                count(self._run, piece.get("usage") or ())
                message, code = str(piece.get("message") or "The agent failed."), str(piece.get("code") or "RUN_ERROR")
                raise given_up(self._run, message, code)
            case "TEXT_MESSAGE_CHUNK" | "REASONING_MESSAGE_CHUNK":
                await self._chunk(_CHUNKS[kind], piece)
            case _:
                await self._emit(piece)

    async def _emit(self, body: Mapping[str, Any]) -> None:
        type, message = body.get("type"), body.get("messageId")
        if type in ("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"):
            self._begun.add(str(message))
        parent = body.get("parentMessageId")
        if type == "TOOL_CALL_START" and isinstance(parent, str) and parent not in self._begun:
            self._begun.add(parent)
            await self._run.emit({"type": "TEXT_MESSAGE_START", "messageId": parent, "role": "assistant"})
        await self._run.emit(body)

    async def _chunk(self, type: str, body: Mapping[str, Any]) -> None:
        text, message = str(body.get("delta") or ""), body.get("messageId")
        if message is not None:
            await self._emit({"type": type, "messageId": message, "delta": text})
        elif type == "TEXT_MESSAGE_CONTENT":
            await self._run.text(text)
        else:
            await self._run.reasoning(text)
