"""What a graph streams, as AG-UI's events; decided here, without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.running import usage_entry
from session_fabric.frameworks.writing import Piece

with extra("langgraph"):
    from ag_ui.core import BaseEvent
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
    from pydantic import TypeAdapter

_JSON: Final[TypeAdapter[Any]] = TypeAdapter(Any)


class Told:
    """Turns the parts of `astream(version="v2")` into events. Keeps what is open of each message, so one for each turn.

    `state`: the state's keys that are told, as `STATE_SNAPSHOT` when they have changed.
    """

    def __init__(self, state: tuple[str, ...]) -> None:
        self.usage: list[dict[str, Any]] = []
        self.values: Any = None  # of the state, where they are streamed, the newest
        self._state = state
        self._shown: dict[str, Any] = {}
        self._steps: Counter[str] = Counter()
        self._open: dict[str, tuple[str, ...]] = {}  # messages that have begun, and where
        self._whole: set[str] = set()
        self._calls: dict[tuple[str, Any], str] = {}  # tool calls that are being streamed, by message and index

    def part(self, part: Mapping[str, Any]) -> Iterator[Piece]:
        """Yield the events of one part."""
        ns, data = part["ns"], part["data"]
        match part["type"]:
            case "messages":
                yield from self.message(data[0], ns, data[1])
            case "updates":
                yield from self._close(ns)
            case "tasks" if not ns:
                yield from self._task(data)
            case "custom":
                event = isinstance(data, BaseEvent)
                yield data if event else {"type": "CUSTOM", "name": "langgraph", "value": plain(data)}
            case "values" if not ns:
                self.values = data
                yield from self._values(data)

    def end(self) -> Iterator[Piece]:
        """Yield what ends messages that nothing has ended."""
        for ns in set(self._open.values()):
            yield from self._close(ns)

    def message(
        self, message: BaseMessage, ns: tuple[str, ...] = (), about: Mapping[str, Any] | None = None
    ) -> Iterator[Piece]:
        """Yield the events of a message, or of a piece of one."""
        if isinstance(message, ToolMessage):
            content = message.content if isinstance(message.content, str) else _JSON.dump_json(message.content).decode()
            about_it = {"messageId": message.id or f"{message.tool_call_id}-result", "role": "tool"}
            yield {"type": "TOOL_CALL_RESULT", "toolCallId": message.tool_call_id, "content": content, **about_it}
        elif isinstance(message, AIMessage) and message.id and message.id not in self._whole:
            self._count(message, about or {})
            yield from self._said(message, message.id, ns)
            if not isinstance(message, AIMessageChunk) or message.chunk_position == "last":
                yield from self._end(message.id)

    def _said(self, message: AIMessage, id: str, ns: tuple[str, ...]) -> Iterator[Piece]:
        for block in message.content_blocks:
            text = block.get("text") if block["type"] == "text" else block.get("reasoning")
            if block["type"] not in ("text", "reasoning") or not text:
                continue
            yield from self._begin(id, ns)
            kind = "TEXT_MESSAGE_CONTENT" if block["type"] == "text" else "REASONING_MESSAGE_CONTENT"
            yield {"type": kind, "messageId": id, "delta": str(text)}
        if isinstance(message, AIMessageChunk):
            for chunk in message.tool_call_chunks:
                yield from self._call(id, ns, chunk)
            return
        for call in message.tool_calls:
            args = _JSON.dump_json(call["args"]).decode()
            yield from self._call(id, ns, {"id": call["id"], "name": call["name"], "args": args, "index": call["id"]})

    def _call(self, message: str, ns: tuple[str, ...], chunk: Mapping[str, Any]) -> Iterator[Piece]:
        at = (message, chunk.get("index"))
        if chunk.get("id") and chunk.get("name") and self._calls.get(at) != chunk["id"]:
            yield from self._begin(message, ns)
            self._calls[at] = chunk["id"]
            about = {"toolCallId": chunk["id"], "toolCallName": chunk["name"], "parentMessageId": message}
            yield {"type": "TOOL_CALL_START", **about}
        if chunk.get("args") and at in self._calls:
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": self._calls[at], "delta": chunk["args"]}

    def _begin(self, id: str, ns: tuple[str, ...]) -> Iterator[Piece]:
        if id not in self._open:
            self._open[id] = ns
            yield {"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"}

    def _end(self, id: str) -> Iterator[Piece]:
        self._whole.add(id)
        for at in [at for at in self._calls if at[0] == id]:
            yield {"type": "TOOL_CALL_END", "toolCallId": self._calls.pop(at)}
        if self._open.pop(id, None) is not None:
            yield {"type": "TEXT_MESSAGE_END", "messageId": id}

    def _close(self, ns: tuple[str, ...]) -> Iterator[Piece]:
        for id in [id for id, where in self._open.items() if where == ns]:
            yield from self._end(id)

    def _task(self, data: Mapping[str, Any]) -> Iterator[Piece]:
        """Tell of a node that begins or ends; of one that works several times at once, of the first and the last."""
        name = data["name"]
        if "triggers" in data:
            self._steps[name] += 1
            if self._steps[name] == 1:
                yield {"type": "STEP_STARTED", "stepName": name, "attempt": 1}
            return
        self._steps[name] -= 1
        if self._steps[name] == 0:
            outcome = "failed" if data.get("error") else "success"
            yield {"type": "STEP_FINISHED", "stepName": name, "attempt": 1, "outcome": outcome}

    def _values(self, data: Any) -> Iterator[Piece]:
        if not self._state:
            return
        values = data if isinstance(data, Mapping) else vars(data)
        shown = {key: plain(values[key]) for key in self._state if key in values}
        if shown != self._shown:
            self._shown = shown
            yield {"type": "STATE_SNAPSHOT", "snapshot": shown}

    def _count(self, message: AIMessage, about: Mapping[str, Any]) -> None:
        used = message.usage_metadata
        if used is None:
            return
        read, written = used.get("input_token_details") or {}, used.get("output_token_details") or {}
        entry = usage_entry(
            about.get("ls_provider"),
            about.get("ls_model_name"),
            used["input_tokens"],
            used["output_tokens"],
            cached=read.get("cache_read", 0),
            cache_written=read.get("cache_creation", 0),
            reasoning=written.get("reasoning", 0),
        )
        self.usage.append(entry)


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON has no form for, as text."""
    return _JSON.dump_python(value, mode="json", fallback=str)
