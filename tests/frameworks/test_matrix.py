"""The table of what each framework can: every yes in the documentation is a test."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from tests.docs.pages import page
from tests.frameworks import test_iterator as iterator
from tests.frameworks import test_langgraph as langgraph
from tests.frameworks import test_openai_agents as openai
from tests.frameworks import test_pydantic_ai as pydantic
from tests.frameworks import test_synadia as synadia
from tests.support.printing import PRINTED

MODULES: dict[str, ModuleType] = {
    "iterator": iterator,
    "Pydantic AI": pydantic,
    "LangGraph": langgraph,
    "OpenAI Agents": openai,
    "Synadia": synadia,
}
_STREAMS = "test_an_answer_streams_is_completed_and_says_what_it_used"
_TOLD = "test_tool_calls_are_told_with_arguments_and_results"
_AG_UI = "test_events_of_ag_ui_are_written_as_they_are"
_ASKS = "test_a_tool_that_needs_approval_waits_for_another_participant"
_RESULT = "test_an_output_that_is_no_text_is_the_runs_result"
# Of each row the tests that show it, in the order of the table's columns; None where there is no yes.
SHOWN: dict[str, tuple[str | None, str | None, str | None, str | None, str | None]] = {
    "text as it comes, completed at the end": (
        "test_what_an_iterator_yields_is_what_the_run_says",
        _STREAMS,
        _STREAMS,
        _STREAMS,
        "test_what_the_agent_streams_is_what_the_run_says",
    ),
    "reasoning": (
        _AG_UI,
        "test_thoughts_and_tool_calls_are_told_with_arguments_and_results",
        "test_what_a_model_thinks_is_told_beside_its_text",
        "test_what_a_model_thinks_is_told_beside_its_text",
        None,
    ),
    "tool calls with arguments and results": (
        _AG_UI,
        "test_thoughts_and_tool_calls_are_told_with_arguments_and_results",
        _TOLD,
        _TOLD,
        None,
    ),
    "steps, agents": (_AG_UI, None, _STREAMS, "test_agents_that_get_a_hand_off_are_steps", None),
    "state": (_AG_UI, None, "test_state_that_is_chosen_is_told_and_the_input_can_be_made", None, None),
    "usage": (_AG_UI, _STREAMS, _STREAMS, _STREAMS, None),
    "the conversation before the question": (
        "test_the_conversation_is_the_branch_that_is_shown_with_calls_and_results",
        "test_the_second_question_is_asked_with_the_first_and_its_answer",
        "test_the_second_question_is_asked_with_the_first_and_its_answer",
        "test_the_second_question_is_asked_with_the_first_its_calls_and_its_answer",
        "test_sessions_can_be_those_of_the_agent_and_be_told_the_conversation",
    ),
    "cancel, the text kept": (
        "test_a_cancel_closes_the_iterator_and_keeps_what_it_has_yielded",
        "test_a_cancel_in_mid_answer_cancels_the_models_request_and_keeps_the_text",
        "test_a_cancel_in_mid_answer_stops_the_graph_and_the_next_question_knows_what_was_said",
        "test_a_cancel_in_mid_answer_keeps_the_text",
        "test_a_cancel_drops_the_stream_and_keeps_the_text",
    ),
    "steer": (
        None,
        "test_a_steer_is_in_the_next_request_of_the_same_run",
        "test_a_steer_is_the_next_turn_of_the_same_run",
        "test_a_steer_is_the_input_of_the_next_turn_of_the_same_run",
        None,
    ),
    "approvals, questions": (
        None,
        _ASKS,
        "test_interrupts_are_asked_of_participants_one_after_the_other",
        _ASKS,
        "test_queries_of_the_agent_are_answered_by_participants",
    ),
    "tools of a participant's device": (
        None,
        "test_a_deferred_tool_is_called_by_a_participants_device",
        "test_an_interrupt_can_be_a_tool_of_a_participants_device",
        None,
        None,
    ),
    "a result that is no text": (_AG_UI, _RESULT, None, f"{_RESULT}_and_a_context_is_made", None),
    "goes on where a dead process was": (
        None,
        None,
        "test_a_graph_whose_process_is_gone_in_the_middle_of_a_node_is_gone_on_for_from_there",
        "test_an_agent_that_is_gone_while_it_waits_is_gone_on_for_by_another",
        None,
    ),
    "limits end it at once": (
        "test_a_run_error_of_the_iterator_is_the_runs_with_its_sentence_and_code",
        "test_a_limit_of_use_ends_the_run_at_once",
        "test_too_many_steps_end_the_run_at_once",
        "test_too_many_turns_end_the_run_at_once",
        "test_what_the_agent_cannot_take_ends_the_run_at_once",
    ),
}


def table() -> list[list[str]]:
    """Return the cells of the documentation's table, its header first."""
    section = page("docs/guides/frameworks.md").split("## Which can what")[1].split("Each yes")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


def test_every_yes_of_the_table_is_a_test(record_property: Callable[[str, object], None]) -> None:
    header, *rows = table()
    assert header[1:] == list(MODULES)
    assert [row[0] for row in rows] == list(SHOWN)
    for name, *cells in rows:
        for (framework, module), cell, test in zip(MODULES.items(), cells, SHOWN[name], strict=True):
            assert cell.startswith("yes") == (test is not None), f"{name}, {framework}"
            assert test is None or callable(getattr(module, test, None)), f"{framework} has no {test}"
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    record_property(PRINTED, "\n".join(line.rstrip() for line in lines))
