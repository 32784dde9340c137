"""LangGraph's checkpoints in JetStream KV."""

from __future__ import annotations

import operator
from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.types import ERROR
from langgraph.graph import END, START, StateGraph
from session_fabric import Fabric
from session_fabric.checkpoints import BUCKET, PIECE_BYTES
from session_fabric.frameworks.checkpointer import JetStreamCheckpointer
from session_fabric.words.errors import InvalidName, SessionNotFound


async def test_it_passes_langgraphs_own_conformance_tests_all_of_them(fabric: Fabric) -> None:
    @checkpointer_test(name="JetStreamCheckpointer")
    async def registered() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        yield JetStreamCheckpointer(fabric)

    report = await validate(registered)
    failed = {name: result.failures for name, result in report.results.items() if result.passed is not True}
    assert failed == {}
    assert report.passed_all()
    assert sum(result.tests_passed for result in report.results.values()) > 60


class State(TypedDict):
    seen: Annotated[list[str], operator.add]
    large: str


def graph(fabric: Fabric) -> Any:
    builder = StateGraph(State)
    builder.add_node("one", lambda state: {"seen": ["one"], "large": "x" * (PIECE_BYTES + 1)})
    builder.add_node("two", lambda state: {"seen": ["two"]})
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    builder.add_edge("two", END)
    return builder.compile(checkpointer=JetStreamCheckpointer(fabric))


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def test_a_graph_goes_on_from_what_another_process_has_kept(fabric: Fabric) -> None:
    await graph(fabric).ainvoke({"seen": ["in"], "large": ""}, thread("chat"))
    async with await Fabric.over(fabric.broker, tenant=fabric.tenant, participant="agent:other") as other:
        state = await graph(other).aget_state(thread("chat"))
        assert state.values["seen"] == ["in", "one", "two"]
        assert len(state.values["large"]) == PIECE_BYTES + 1
        history = [each async for each in graph(other).aget_state_history(thread("chat"))]
    assert [each.values.get("seen", [])[-1:] for each in history] == [["two"], ["one"], ["in"], []]


async def test_what_is_kept_is_of_its_tenant_and_session_alone_and_goes_with_it(fabric: Fabric) -> None:
    await graph(fabric).ainvoke({"seen": ["in"], "large": ""}, thread("chat"))
    await graph(fabric).ainvoke({"seen": ["else"], "large": ""}, thread("other"))
    stranger = fabric.view(tenant=f"{fabric.tenant}x")
    assert (await graph(stranger).aget_state(thread("chat"))).values == {}
    erasure = await fabric.session("chat").delete()
    assert erasure.before["checkpoints"] > 5
    assert erasure.complete
    assert await fabric.broker.bucket(BUCKET).entries(fabric.session("chat").place.key()) == []
    assert (await graph(fabric).aget_state(thread("other"))).values["seen"] == ["else", "one", "two"]
    assert (await graph(fabric).aget_state(thread("chat"))).values == {}
    with pytest.raises(SessionNotFound):
        await fabric.session("chat").record(create=False)


async def test_graphs_of_one_session_are_kept_apart_by_their_names(fabric: Fabric) -> None:
    first, second = JetStreamCheckpointer(fabric), JetStreamCheckpointer(fabric, "second")
    config = await first.aput({"configurable": {"thread_id": "chat", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    assert await second.aget_tuple(thread("chat")) is None
    await second.adelete_thread("chat")
    assert await first.aget_tuple(config) is not None


async def test_pruning_keeps_the_newest_and_what_it_needs(fabric: Fabric) -> None:
    made = graph(fabric)
    await made.ainvoke({"seen": ["in"], "large": ""}, thread("chat"))
    kept = fabric.session("chat").checkpoints.under("langgraph", "")
    before = len(await kept.entries())
    await JetStreamCheckpointer(fabric).aprune(["chat"])
    assert len(await kept.entries()) < before
    assert len(await kept.entries("c")) == 1
    assert (await made.aget_state(thread("chat"))).values["seen"] == ["in", "one", "two"]
    await made.ainvoke({"seen": ["again"], "large": ""}, thread("chat"))
    assert (await made.aget_state(thread("chat"))).values["seen"][-3:] == ["again", "one", "two"]


async def test_what_a_task_has_written_stays_but_for_its_newest_error(fabric: Fabric) -> None:
    saver = JetStreamCheckpointer(fabric)
    config = await saver.aput({"configurable": {"thread_id": "chat", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    for value in ("first", "second"):
        await saver.aput_writes(config, [("seen", value), (ERROR, value)], "task-1")
    found = await saver.aget_tuple(config)
    assert found is not None
    assert sorted(found.pending_writes or ()) == [("task-1", ERROR, "second"), ("task-1", "seen", "first")]


class Deltas(TypedDict):
    """A state of which checkpoints have what changed, and now and then the whole."""

    seen: Annotated[
        list[str],
        DeltaChannel(lambda state, writes: [*state, *(w for ws in writes for w in ws)], list, snapshot_frequency=4),
    ]


async def test_pruning_keeps_what_delta_channels_are_rebuilt_from(fabric: Fabric) -> None:
    builder = StateGraph(Deltas)
    builder.add_node("one", lambda state: {"seen": [f"one {len(state['seen'])}"]})
    builder.add_edge(START, "one")
    made = builder.compile(checkpointer=JetStreamCheckpointer(fabric))
    kept = fabric.session("chat").checkpoints.under("langgraph", "")
    expected: list[str] = []
    for number in range(7):
        await made.ainvoke({"seen": [f"in {number}"]}, thread("chat"))
        expected += [f"in {number}", f"one {len(expected) + 1}"]
        before = len(await kept.entries("c"))
        await JetStreamCheckpointer(fabric).aprune(["chat"])
        assert len(await kept.entries("c")) <= before
        assert (await made.aget_state(thread("chat"))).values["seen"] == expected
    assert len(await kept.entries("c")) < 9  # of more than twenty


async def test_a_thread_that_cannot_be_a_session_is_refused_by_name(fabric: Fabric) -> None:
    with pytest.raises(InvalidName, match=r"a\.b"):
        await graph(fabric).ainvoke({"seen": [], "large": ""}, thread("a.b"))
