"""Who may append what, and where it is kept: the whole table."""

from __future__ import annotations

import pytest
from session_fabric.rules.routing import RESERVED_PREFIXES, authorize, destination, route
from session_fabric.words import events
from session_fabric.words.errors import Forbidden, InvalidEvent, InvalidName
from session_fabric.words.events import DELTA_KEYS, RUN_ENDS

USERS = ["user", "operator", "supervisor"]
ROLES = [*USERS, "agent", "service"]

# AG-UI 1.0, all of its events (EventType of ag-ui-protocol), without CUSTOM.
AG_UI = [
    "TEXT_MESSAGE_START",
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_END",
    "TEXT_MESSAGE_CHUNK",
    "TOOL_CALL_START",
    "TOOL_CALL_ARGS",
    "TOOL_CALL_END",
    "TOOL_CALL_CHUNK",
    "TOOL_CALL_RESULT",
    "STATE_SNAPSHOT",
    "STATE_DELTA",
    "MESSAGES_SNAPSHOT",
    "ACTIVITY_SNAPSHOT",
    "ACTIVITY_DELTA",
    "RAW",
    "RUN_STARTED",
    "RUN_FINISHED",
    "RUN_ERROR",
    "STEP_STARTED",
    "STEP_FINISHED",
    "REASONING_START",
    "REASONING_MESSAGE_START",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_END",
    "REASONING_MESSAGE_CHUNK",
    "REASONING_END",
    "REASONING_ENCRYPTED_VALUE",
    "SUBAGENT_STARTED",
    "SUBAGENT_FINISHED",
    "SUBAGENT_ERROR",
    "THINKING_START",
]
TO_POOLS = ["message.user", "message.regenerate", "message.forwarded"]
ANYBODYS = [
    "message.user",
    "message.regenerate",
    "branch.selected",
    "CUSTOM",
    "app.rated",
    "note",
    "Message.user",
    "messages.x",
    "acme.run.claimed",
]
AGENTS = [*AG_UI, "message.completed", "message.snapshot"]
FABRICS = sorted(
    {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str) and "." in value}
    - {events.MESSAGE_USER, events.MESSAGE_REGENERATE, events.MESSAGE_COMPLETED, events.MESSAGE_SNAPSHOT}
    - {events.BRANCH_SELECTED, events.MESSAGE_REDACTED, events.EVENT_REDACTED}
    | {f"{prefix}.something" for prefix in RESERVED_PREFIXES}
    | RESERVED_PREFIXES
)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("type", ANYBODYS)
def test_anybody_may_append_messages_and_events_of_his_own(role: str, type: str) -> None:
    authorize(type, role)


@pytest.mark.parametrize("type", AGENTS)
def test_run_content_is_for_agents_and_services(type: str) -> None:
    authorize(type, "agent")
    authorize(type, "service")
    for role in USERS:
        with pytest.raises(Forbidden, match=f"'{type}' .* cannot append it"):
            authorize(type, role)


@pytest.mark.parametrize("type", FABRICS)
def test_the_fabrics_own_events_are_for_services_alone(type: str) -> None:
    authorize(type, "service")
    for role in [*USERS, "agent"]:
        with pytest.raises(Forbidden, match="the fabric's own event"):
            authorize(type, role)


@pytest.mark.parametrize("type", [events.MESSAGE_REDACTED, events.EVENT_REDACTED])
def test_nobody_says_that_something_was_removed_but_by_removing_it(type: str) -> None:
    for role in ROLES:
        with pytest.raises(Forbidden, match="the fabric's own event"):
            authorize(type, role)


def test_a_refusal_names_the_type_and_the_role_and_says_what_to_do() -> None:
    with pytest.raises(Forbidden) as caught:
        route("RUN_STARTED", {}, "user")
    assert str(caught.value) == (
        "'RUN_STARTED' is what a run says: a user cannot append it. "
        "Append message.user, CUSTOM, or a type with a prefix of your own, as in app.rated."
    )
    assert caught.value.facts == {"event": "RUN_STARTED", "role": "user"}
    with pytest.raises(Forbidden, match="an operator cannot"):
        route("control.requested", {}, "operator")


@pytest.mark.parametrize("type", TO_POOLS)
def test_what_wakes_an_agent_goes_to_a_pool(type: str) -> None:
    assert route(type, {}, "service") == ("in", "default")
    assert route(type, {"pool": "legal"}, "service") == ("in", "legal")
    for wrong in (7, None, "", "a b", "x" * 129):
        with pytest.raises(InvalidName, match="pool"):
            route(type, {"pool": wrong}, "service")


@pytest.mark.parametrize("type", sorted(DELTA_KEYS))
def test_deltas_are_kept_by_run(type: str) -> None:
    assert route(type, {}, "agent", "r1") == ("tok", "r1")


@pytest.mark.parametrize("type", [*sorted(RUN_ENDS), "run.claimed", "run.taken_over", "run.orphaned"])
def test_what_decides_over_a_run_is_kept_by_run(type: str) -> None:
    assert destination(type, {}, "r1") == ("own", "r1")


@pytest.mark.parametrize("type", [*sorted(DELTA_KEYS), *sorted(RUN_ENDS), "run.claimed"])
def test_what_belongs_to_a_run_must_name_one(type: str) -> None:
    with pytest.raises(InvalidEvent, match="belongs to a run"):
        destination(type, {})
    with pytest.raises(InvalidName, match="run"):
        destination(type, {}, "a b")


@pytest.mark.parametrize(
    "type",
    [t for t in [*AG_UI, *ANYBODYS] if t not in DELTA_KEYS and t not in RUN_ENDS and t not in TO_POOLS],
)
def test_all_else_is_a_milestone(type: str) -> None:
    assert route(type, {}, "service", "r1") == ("ev", "_")


@pytest.mark.parametrize("type", ["FOO", "SOMETHING_NEW", "A1"])
def test_names_in_capitals_are_left_to_ag_ui(type: str) -> None:
    with pytest.raises(Forbidden):
        route(type, {}, "user")
    assert route(type, {}, "agent") == ("ev", "_")
