"""A chat model for tests that streams as real ones do: text in pieces, tool calls with arguments in pieces, usage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

# Called with what the model is told; returns text, a tool call (name, args as JSON), or several of them.
Answer = Callable[[list[BaseMessage]], Awaitable[str | tuple[str, str]]]
# Waited for between words.
Pause = Callable[[], Awaitable[None]]
AT_ONCE: Pause = partial(asyncio.sleep, 0)


class ScriptedChatModel(BaseChatModel):
    """Answers as `answer` says, word by word, with a pause between words."""

    answer: Any
    pause: Any = AT_ONCE

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        said = await self.answer(messages)
        used = {"input_tokens": len(messages), "output_tokens": 2, "total_tokens": len(messages) + 2}
        if isinstance(said, tuple):
            name, args = said
            half = len(args) // 2
            first = {"name": name, "args": args[:half], "id": f"call-{len(messages)}", "index": 0}
            rest = {"name": None, "args": args[half:], "id": None, "index": 0}
            chunks = [AIMessageChunk(content="", tool_call_chunks=[each]) for each in (first, rest)]
        else:
            words = [f"{word} " for word in said.split()]
            chunks = [AIMessageChunk(content=word) for word in words]
        chunks.append(AIMessageChunk(content="", usage_metadata=used, chunk_position="last"))
        for chunk in chunks:
            made = ChatGenerationChunk(message=chunk)
            if run_manager is not None:
                await run_manager.on_llm_new_token(str(chunk.content), chunk=made)
            yield made
            await self.pause()
