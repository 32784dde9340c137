"""A LangGraph agent that drafts a mail and asks before it sends it. `python examples/langgraph_agent.py ADDRESS`

Kill it while it waits, start it again, and answer: it goes on where it was. It runs offline, with LangChain's own model
for tests; put a real one in its place.
"""

import asyncio
import sys

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from session_fabric import Fabric
from session_fabric.frameworks.checkpointer import JetStreamCheckpointer
from session_fabric.frameworks.langgraph import langgraph


async def draft(state: MessagesState) -> dict[str, list[AIMessage]]:
    mail = f"Dear all, {state['messages'][-1].content}. Yours, the agent"
    model = GenericFakeChatModel(messages=iter([AIMessage(content=mail)]))
    return {"messages": [await model.ainvoke(state["messages"])]}


async def send(state: MessagesState) -> dict[str, list[AIMessage]]:
    answer = interrupt({"kind": "approval", "title": "Send it?", "text": state["messages"][-1].content})
    return {"messages": [AIMessage(content="It is sent." if answer["approved"] else "I have thrown it away.")]}


async def main(url: str) -> None:
    builder = StateGraph(MessagesState)
    builder.add_sequence([draft, send])
    builder.add_edge(START, "draft")
    async with Fabric.connect(url, participant="agent:mail") as fabric:
        graph = builder.compile(checkpointer=JetStreamCheckpointer(fabric))
        fabric.agent()(langgraph(graph))
        await fabric.serve()


asyncio.run(main(sys.argv[1]))
