"""A session as the AI SDK's `UIMessage`s: what a page that is loaded renders before it goes on with a stream. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from session_fabric.rules.fold import Fold
from session_fabric.rules.messages import STATUS, Message
from session_fabric.words.wire import Record

from session_fabric_gateway.dialects.ai_sdk.chunks import Chunks
from session_fabric_gateway.dialects.ai_sdk.parts import METADATA, Reader

Part = dict[str, Any]
_MEDIA: Final = frozenset({"image", "audio", "video", "document"})


class UIMessage:
    """Puts chunks together as the framework's clients do (`ai`, process-ui-message-stream.ts)."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.metadata: dict[str, Any] = {}
        self.parts: list[Part] = []
        self._active: dict[tuple[str, str], Part] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        type = str(chunk["type"])
        handler = _HANDLERS.get(type)
        if handler is not None:
            handler(self, chunk)
        elif type.startswith("data-"):
            self._data(chunk)

    def plain(self) -> dict[str, Any]:
        metadata = {"metadata": self.metadata} if self.metadata else {}
        return {"id": self.id, "role": "assistant", **metadata, "parts": self.parts}

    def _start(self, chunk: Mapping[str, Any]) -> None:
        self.id = chunk.get("messageId", self.id)
        self._meta(chunk)

    def _meta(self, chunk: Mapping[str, Any]) -> None:
        for name, value in (chunk.get("messageMetadata") or {}).items():
            self.metadata[name] = {**self.metadata.get(name, {}), **value}

    def _begin_step(self, _: Mapping[str, Any]) -> None:
        self.parts.append({"type": "step-start"})

    def _reset_step(self, _: Mapping[str, Any]) -> None:
        while self.parts and self.parts[-1]["type"] != "step-start":
            self.parts.pop()
        self._active.clear()

    def _begin_text(self, chunk: Mapping[str, Any]) -> None:
        kind = chunk["type"].partition("-")[0]
        self._active[kind, chunk["id"]] = part = {"type": kind, "text": "", "state": "streaming"}
        self.parts.append(part)

    def _text(self, chunk: Mapping[str, Any]) -> None:
        self._active[chunk["type"].partition("-")[0], chunk["id"]]["text"] += chunk["delta"]

    def _end_text(self, chunk: Mapping[str, Any]) -> None:
        self._active.pop((chunk["type"].partition("-")[0], chunk["id"]))["state"] = "done"

    def _data(self, chunk: Mapping[str, Any]) -> None:
        known = next((p for p in self.parts if (p["type"], p.get("id")) == (chunk["type"], chunk.get("id"))), None)
        if known is not None:
            known["data"] = chunk["data"]
        else:
            self.parts.append({name: chunk[name] for name in ("type", "id", "data") if name in chunk})

    def _tool(self, chunk: Mapping[str, Any]) -> Part:
        return next(part for part in reversed(self.parts) if part.get("toolCallId") == chunk["toolCallId"])

    def _input(self, chunk: Mapping[str, Any]) -> None:
        state = {"tool-input-start": "input-streaming", "tool-input-error": "output-error"}
        said = {name: chunk[name] for name in ("input", "providerExecuted", "errorText") if name in chunk}
        known = next((part for part in self.parts if part.get("toolCallId") == chunk["toolCallId"]), None)
        if known is None:
            known = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
            self.parts.append(known)
        known |= {"state": state.get(chunk["type"], "input-available"), **said}

    def _ask(self, chunk: Mapping[str, Any]) -> None:
        self._tool(chunk).update(state="approval-requested", approval={"id": chunk["approvalId"]})

    def _approve(self, chunk: Mapping[str, Any]) -> None:
        part = next(p for p in self.parts if p.get("approval", {}).get("id") == chunk["approvalId"])
        part["state"] = "approval-responded"
        part["approval"] |= {name: chunk[name] for name in ("approved", "reason") if name in chunk}

    def _output(self, chunk: Mapping[str, Any]) -> None:
        said = {name: chunk[name] for name in ("output", "errorText") if name in chunk}
        self._tool(chunk).update(state=chunk["type"].removeprefix("tool-"), **said)


_HANDLERS: Final[Mapping[str, Callable[[UIMessage, Mapping[str, Any]], None]]] = {
    "start": UIMessage._start,
    "finish": UIMessage._meta,
    "start-step": UIMessage._begin_step,
    "reset-step": UIMessage._reset_step,
    **dict.fromkeys(("text-start", "reasoning-start"), UIMessage._begin_text),
    **dict.fromkeys(("text-delta", "reasoning-delta"), UIMessage._text),
    **dict.fromkeys(("text-end", "reasoning-end"), UIMessage._end_text),
    **dict.fromkeys(("tool-input-start", "tool-input-available", "tool-input-error"), UIMessage._input),
    "tool-approval-request": UIMessage._ask,
    "tool-approval-response": UIMessage._approve,
    **dict.fromkeys(("tool-output-available", "tool-output-error", "tool-output-denied"), UIMessage._output),
}


class Transcript:
    """A session's events as messages: a user's as they are, a run's as one, of the branch that is shown."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._fold = Fold()
        self._runs: dict[str, list[Record]] = {}

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self._fold.add(record.event())
            run = record.run
            if run is not None:
                self._runs.setdefault(run, []).append(record)

    def messages(self) -> list[dict[str, Any]]:
        """Return them in order."""
        found: dict[str, dict[str, Any]] = {}
        for message in self._fold.path():
            id = message.run or message.id
            if id not in found:
                found[id] = self._of_run(id) if message.run is not None else _said(message)
        for run in self._fold.runs.values():
            # What a run asks before it has said anything is no message of the log.
            if run.id not in found and STATUS[run.state] == "open" and (run.message is None or run.message in found):
                asks = self._of_run(run.id)
                if asks["parts"]:
                    found[run.id] = asks
        return list(found.values())

    def _of_run(self, run: str) -> dict[str, Any]:
        message = UIMessage(run)
        for chunk in chunks_of(self._runs.get(run, ()), run, self._reader):
            message.add(chunk)
        return message.plain()


def chunks_of(records: Sequence[Record], run: str, reader: Reader) -> list[dict[str, Any]]:
    """Return the chunks of a run as far as it has come, beyond what it has waited for."""
    chunks = Chunks(run, reader, endless=True)
    return [orjson.loads(chunk) for record in records for chunk in chunks.add(record)]


def _said(message: Message) -> dict[str, Any]:
    """Return a message that no run has said."""
    delivery = {"delivery": message.delivery} if message.delivery is not None else {}
    metadata = {METADATA: {"actor": message.actor, "offset": str(message.first), **delivery}}
    role = message.role if message.role in ("user", "system") else "assistant"
    return {"id": message.id, "role": role, "metadata": metadata, "parts": _parts(message.content)}


def _parts(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    found: list[Part] = []
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            found.append({"type": "text", "text": part.get("text", "")})
        elif kind in _MEDIA and isinstance(part.get("source"), dict):
            found.append(_file(part["source"], part.get("metadata")))
        elif isinstance(kind, str) and kind.startswith("data-"):
            found.append({"type": kind, "data": part.get("data")})
    return found


def _file(source: Mapping[str, Any], metadata: object) -> Part:
    """Return one of AG-UI's media parts as the framework has it."""
    media, value = str(source.get("mimeType", "application/octet-stream")), str(source.get("value", ""))
    named = metadata.get("filename") if isinstance(metadata, dict) else None
    url = f"data:{media};base64,{value}" if source.get("type") == "data" else value
    return {"type": "file", "mediaType": media, "url": url, **({"filename": named} if isinstance(named, str) else {})}
