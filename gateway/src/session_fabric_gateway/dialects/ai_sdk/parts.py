"""The parts of one assistant message as the AI SDK's chunks: text, reasoning, tools, what a run asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import orjson
from session_fabric.rules.questions import INPUT_KINDS, is_addressed
from session_fabric.words import events
from session_fabric.words.parsing import json_or_text
from session_fabric.words.positions import Offset

from session_fabric_gateway.dialects.telling import Happened, Part, Piece

Version = Literal[6, 7]
# Under this name a message's metadata has what we say of it.
METADATA: Final = "sessionFabric"
_DELTAS: Final[Mapping[Part, bytes]] = {
    "text": b'{"type":"text-delta","id":%b,"delta":%b}',
    "reasoning": b'{"type":"reasoning-delta","id":%b,"delta":%b}',
    "args": b'{"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":%b}',
}


@dataclass(slots=True)
class _Call:
    """A tool part; `args` is what its input is made of."""

    name: str
    args: list[str] = field(default_factory=list)
    available: bool = False


class Reader(NamedTuple):
    """For whom a run is told; `resets`: the client knows `reset-step`, `interrupted` and approval responses."""

    participant: str
    version: Version = 7


class Parts:
    """Says what begins, grows and ends in a run's message, step by step. `_out` is what is to be sent."""

    def __init__(self, run: str, reader: Reader) -> None:
        self._reader = reader
        self._run = run
        self._out: list[bytes] = []
        self._started = False
        self._step = False
        self._outputs = False  # the step has what a tool gave
        self._active: dict[tuple[str, Part], bytes] = {}
        self._calls: dict[str, _Call] = {}
        self._early: dict[str, list[bytes]] = {}  # arguments of calls that have not begun
        self._pending: set[str] = set()  # calls without an output
        self._asked: dict[str, str] = {}  # of this participant, open; the tool part of each

    def _say(self, type: str, **fields: Any) -> None:
        self._begin()
        self._put(type, **fields)

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._put("start", messageId=self._run, messageMetadata={METADATA: {"run": self._run}})

    def _put(self, type: str, **fields: Any) -> None:
        self._out.append(orjson.dumps({"type": type, **fields}))

    def _begin_step(self) -> None:
        if self._step and (not self._outputs or self._pending):
            return
        self._end_step()
        self._say("start-step")
        self._step, self._outputs = True, False

    def _end_step(self) -> None:
        if self._step:
            self._say("finish-step")
        self._step = False

    def _end_part(self, key: tuple[str, Part]) -> None:
        if self._active.pop(key, None) is not None:
            self._say("text-end" if key[1] == "text" else "reasoning-end", id=key[0])

    def _end_parts(self, message: str | None = None) -> None:
        for key in [key for key in self._active if message in (None, key[0])]:
            self._end_part(key)

    def _metadata(self, offset: Offset, **more: Any) -> dict[str, Any]:
        said = {"run": self._run, "offset": str(offset), **more}
        return {METADATA: {name: value for name, value in said.items() if value is not None}}

    def _piece(self, piece: Piece) -> None:
        of, part, text = piece
        if part == "args":
            call = self._calls.get(of)
            if call is None:
                self._early.setdefault(of, []).append(text)  # the beginning of its call comes late
            elif not call.available:
                self._args(of, call, text)
            return
        id = self._active.get((of, part))
        if id is None:
            if part == "text":
                self._end_part((of, "reasoning"))
            self._begin_step()
            id = self._active[of, part] = orjson.dumps(of)
            self._say("text-start" if part == "text" else "reasoning-start", id=of)
        self._out.append(_DELTAS[part] % (id, text))

    def _args(self, id: str, call: _Call, text: bytes) -> None:
        call.args.append(orjson.loads(text))
        self._out.append(_DELTAS["args"] % (orjson.dumps(id), text))

    # --- tools --------------------------------------------------------------------------------------

    def _call_started(self, told: Happened) -> None:
        id, name, parent = (told.body.get(key) for key in ("toolCallId", "toolCallName", "parentMessageId"))
        if isinstance(id, str) and id not in self._calls:
            self._end_parts(parent if isinstance(parent, str) else None)
            self._begin_step()
            call = self._calls[id] = _Call(str(name))
            self._pending.add(id)
            self._say("tool-input-start", toolCallId=id, toolName=str(name), providerExecuted=True)
            for text in self._early.pop(id, ()):
                self._args(id, call, text)

    def _call_ended(self, told: Happened) -> None:
        id = told.body.get("toolCallId")
        call = self._calls.get(id) if isinstance(id, str) else None
        if isinstance(id, str) and call is not None and not call.available:
            self._available(id, call)

    def _available(self, id: str, call: _Call, *, here: bool = False) -> None:
        """Say what a tool is called with; `here`: by the page, which calls it."""
        call.available = True
        text = "".join(call.args)
        said = {"toolCallId": id, "toolName": call.name, "providerExecuted": not here}
        try:
            self._say("tool-input-available", **said, input=orjson.loads(text) if text else {})
        except orjson.JSONDecodeError:
            self._say("tool-input-error", **said, input=text, errorText="invalid_request: the arguments are not JSON.")

    def _result(self, told: Happened) -> None:
        id, content = told.body.get("toolCallId"), told.body.get("content")
        call = self._calls.get(id) if isinstance(id, str) else None
        if not isinstance(id, str) or call is None:
            return
        if not call.available:
            self._available(id, call)
        output = json_or_text(content)
        if isinstance(output, dict) and output.keys() == {"error"} and isinstance(output["error"], str):
            self._gave(id, "tool-output-error", errorText=output["error"])
        else:
            self._gave(id, "tool-output-available", output=output)

    def _gave(self, id: str, type: str, **fields: Any) -> None:
        self._say(type, toolCallId=id, **fields)
        self._pending.discard(id)
        self._outputs = True

    # --- what the run asks --------------------------------------------------------------------------

    def _tool_requested(self, told: Happened) -> None:
        body, request = told.body, told.id
        if not self._is_ours(told):
            return
        name = body.get("call")
        id = name if isinstance(name, str) and name in self._calls else request
        call = self._calls.get(id)
        if call is None:
            self._begin_step()
            call = self._calls[id] = _Call(str(body.get("tool")), [orjson.dumps(body.get("args")).decode()])
        self._pending.add(id)
        self._available(id, call, here=True)
        self._asked[request] = id

    def _input_requested(self, told: Happened) -> None:
        body, request, kind = told.body, told.id, told.body.get("kind")
        if kind not in INPUT_KINDS or not self._is_ours(told):
            return
        self._end_parts()
        self._begin_step()
        names = ("title", "text", "options", "schema", "default")
        asked = {name: body[name] for name in names if body.get(name) is not None}
        call = self._calls[request] = _Call(str(kind), [orjson.dumps(asked).decode()])
        self._pending.add(request)
        self._available(request, call, here=kind != "approval")
        if kind == "approval":
            self._say("tool-approval-request", approvalId=request, toolCallId=request)
        self._asked[request] = request

    def _is_ours(self, told: Happened) -> bool:
        """Say whether this participant may answer; what others are asked is shown as data."""
        if is_addressed(told.body.get("to"), self._reader.participant, None):
            return True
        asked = {name: told.body.get(name) for name in ("kind", "title", "tool", "to")}
        shown = {name: value for name, value in asked.items() if value is not None}
        self._say("data-request", id=told.id, data={**shown, "state": "open"})
        return False

    def _answered(self, told: Happened) -> None:
        request = told.body.get("request")
        call = self._calls.get(request) if isinstance(request, str) else None
        if not isinstance(request, str):
            return
        self._asked.pop(request, None)
        if call is None or told.type == events.TOOL_ANSWERED:
            return  # the tool's result follows
        body = told.body.get("body")
        if call.name != "approval":
            self._gave(request, "tool-output-available", output=body)
            return
        said = body if isinstance(body, dict) else {}
        approved, comment = said.get("approved") is True, said.get("comment")
        if self._reader.version >= 7:
            reason = {"reason": comment} if isinstance(comment, str) else {}
            self._say("tool-approval-response", approvalId=request, approved=approved, **reason)
        if approved:
            self._gave(request, "tool-output-available", output={**said, "by": told.body.get("by")})
        else:
            self._gave(request, "tool-output-denied")

    def _expired(self, told: Happened) -> None:
        request = told.body.get("request")
        if isinstance(request, str):
            self._asked.pop(request, None)
            if request in self._calls:
                self._gave(request, "tool-output-error", errorText="request_expired: nobody answered in time.")
