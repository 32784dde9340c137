"""What an agent of the OpenAI Agents SDK streams, as AG-UI's events; decided here, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.running import usage_entry

with extra("openai-agents"):
    from agents import StreamEvent
    from pydantic import TypeAdapter

_JSON: Final[TypeAdapter[Any]] = TypeAdapter(Any)
_TEXT: Final = ("response.output_text.delta", "response.refusal.delta")
_REASONING: Final = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


class Told:
    """Turns stream events into AG-UI's, and keeps what was said in short, so that it can be told again."""

    def __init__(self, provider: str | None = None) -> None:
        self.said: list[dict[str, Any]] = []
        self.usage: list[dict[str, Any]] = []
        self._provider = provider
        self._message: str | None = None  # what is being said now
        self._calls: dict[Any, str] = {}  # tool calls that are being streamed, by output item
        self._agent: str | None = None

    def event(self, event: StreamEvent) -> Iterator[Mapping[str, Any]]:
        """Yield the events of one stream event."""
        for body in self._event(event):
            self._keep(body)
            yield body

    def end(self) -> Iterator[Mapping[str, Any]]:
        """Yield what ends what nothing has ended."""
        for body in [*self._end_message(), *self._step(None)]:
            self._keep(body)
            yield body

    def _event(self, event: StreamEvent) -> Iterator[dict[str, Any]]:
        if event.type == "agent_updated_stream_event":
            yield from self._step(event.new_agent.name)
        elif event.type == "run_item_stream_event":
            if event.name == "tool_output":
                yield self._result(event.item)
        else:
            yield from self._raw(event.data)

    def _raw(self, data: Any) -> Iterator[dict[str, Any]]:
        kind = data.type
        if kind in _TEXT:
            yield from self._begin()
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._message, "delta": data.delta}
        elif kind in _REASONING:
            yield from self._begin()
            yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": self._message, "delta": data.delta}
        elif kind == "response.output_item.added" and data.item.type == "function_call":
            yield from self._begin()
            self._calls[data.output_index] = data.item.call_id
            about = {"toolCallName": data.item.name, "parentMessageId": self._message}
            yield {"type": "TOOL_CALL_START", "toolCallId": data.item.call_id, **about}
        elif kind == "response.function_call_arguments.delta" and data.output_index in self._calls:
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": self._calls[data.output_index], "delta": data.delta}
        elif kind == "response.output_item.done" and data.output_index in self._calls:
            yield {"type": "TOOL_CALL_END", "toolCallId": self._calls.pop(data.output_index)}
        elif kind in ("response.completed", "response.incomplete"):
            self._count(data.response)
            yield from self._end_message()
            self._calls.clear()

    def _begin(self) -> Iterator[dict[str, Any]]:
        if self._message is None:
            # Models' own ids are not always there, and not always different from each other.
            self._message = f"msg-{uuid4().hex}"
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._message, "role": "assistant"}

    def _end_message(self) -> Iterator[dict[str, Any]]:
        if self._message is not None:
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._message}
            self._message = None

    def _step(self, agent: str | None) -> Iterator[dict[str, Any]]:
        """Tell of the agent that works now: of each that gets a hand-over, and of the first."""
        if agent == self._agent:
            return
        if self._agent is not None:
            yield {"type": "STEP_FINISHED", "stepName": self._agent, "attempt": 1, "outcome": "success"}
        if agent is not None:
            yield {"type": "STEP_STARTED", "stepName": agent, "attempt": 1}
        self._agent = agent

    @staticmethod
    def _result(item: Any) -> dict[str, Any]:
        raw = item.raw_item
        call = raw["call_id"] if isinstance(raw, Mapping) else raw.call_id
        content = item.output if isinstance(item.output, str) else _JSON.dump_json(item.output, fallback=str).decode()
        body = {"type": "TOOL_CALL_RESULT", "messageId": f"{call}-result", "toolCallId": call}
        return {**body, "role": "tool", "content": content}

    def _keep(self, body: dict[str, Any]) -> None:
        last = self.said[-1] if self.said else None
        if last is not None and "delta" in body and {**last, "delta": ""} == {**body, "delta": ""}:
            last["delta"] += body["delta"]
        else:
            self.said.append(dict(body))

    def _count(self, response: Any) -> None:
        used = response.usage
        if used is not None:
            cached = getattr(used.input_tokens_details, "cached_tokens", 0) or 0
            reasoning = getattr(used.output_tokens_details, "reasoning_tokens", 0) or 0
            entry = usage_entry(
                self._provider,
                response.model,
                used.input_tokens,
                used.output_tokens,
                cached=cached,
                reasoning=reasoning,
            )
            self.usage.append(entry)


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON has no form for, as text."""
    return _JSON.dump_python(value, mode="json", fallback=str)
