"""The TypeScript client's types of what it gets against what the gateway sends: a field on one side alone is found."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from session_fabric.absences import Absence
from session_fabric.members import Member
from session_fabric.records import SessionRecord
from session_fabric.rules.floor import FloorState
from session_fabric.rules.messages import Run
from session_fabric.rules.policy import Policy
from session_fabric.rules.requests import Claim, Request
from session_fabric.rules.states import State
from session_fabric.words.positions import ZERO
from session_fabric.words.signals import Origin, spell_cursor, spell_signal
from session_fabric.words.wire import event_json
from session_fabric_gateway.encoding import events_payload
from session_fabric_gateway.settings import Limits

from tests.gateway.records import delta, record
from tests.gateway.said import Said, frames

SRC = Path(__file__).parents[2] / "clients/typescript/src"
WORDS = (SRC / "words.ts").read_text()
# Answers to what only operators ask, which the client does not.
NOT_THE_CLIENTS = {"retention", "held", "redacted"}


class Typed(NamedTuple):
    """The fields of a type, and which of them must be there; `open`: there may be others."""

    fields: frozenset[str]
    required: frozenset[str]
    open: bool


def typed(body: str) -> Typed:
    """Read the fields of an object type; comments and what is in its braces do not count."""
    flat = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    while (inner := re.sub(r"\{[^{}]*\}|<[^<>]*>", "", flat)) != flat:
        flat = inner
    open = re.search(r"\[\w+: string\]", flat) is not None
    found = {name: optional == "" for name, optional in re.findall(r"(?:^|;)\s*(?:readonly )?(\w+)(\??):", flat)}
    return Typed(frozenset(found), frozenset(name for name, needed in found.items() if needed), open)


def interface(name: str, text: str = WORDS) -> Typed:
    match = re.search(rf"^(?:export )?interface {name} \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"there is no interface {name}"
    return typed(match[1])


def gateway_frames() -> dict[str, list[Typed]]:
    """The forms of each frame that words.ts says the gateway sends."""
    match = re.search(r"^export type GatewayFrame =\n(.*?);\n\n", WORDS, re.MULTILINE | re.DOTALL)
    assert match is not None
    forms: dict[str, list[Typed]] = {"error": [interface("Refusal")]}
    for line in match[1].splitlines():
        written = re.search(r"\{(.*)\}", line)
        if written is None:
            assert line == "  | Refusal", line
            continue
        own = typed(written[1])
        for base, partial in re.findall(r"\b(AgentConnection|StatePush)(>?)", line):
            known = interface(base)
            own = Typed(own.fields | known.fields, own.required | (frozenset() if partial else known.required), False)
        ops = re.search(r"op: ([^;]*)", written[1])
        assert ops is not None, line
        for op in re.findall(r'"(\w+)"', ops[1]):
            forms.setdefault(op, []).append(own)
    return forms


FORMS = gateway_frames()


def sent() -> list[Said]:
    """Every frame that the gateway sends, from its source; those that are spelled by hand, as they are spelled."""
    origin = Origin("c1", "user:ada", "d1")
    passing = [orjson.loads(spelled) for spelled in (spell_signal(origin, {}), spell_cursor(origin, ZERO))]
    spelled = [{"op": said["op"], "sub": 1, **said["fields"]} for said in passing]
    spelled.append(orjson.loads(events_payload(1, [record(1)])))
    found = [said for said in frames() if said.op not in NOT_THE_CLIENTS]
    return found + [Said(frame["op"], frozenset(frame) - {"op"}, frozenset()) for frame in spelled]


SENT = sent()


def takes(form: Typed, said: Said) -> bool:
    """Say whether a form has all that is said, and all that it counts on is."""
    known = form.fields - {"op"}
    if form.open:
        return form.required - {"op"} <= said.fields
    return said.fields | said.some - {"…", "retryable"} <= known and form.required - {"op"} <= said.fields


def test_there_are_frames_on_both_sides() -> None:
    assert {"welcome", "opened", "events", "mark", "gone", "error", "signal"} <= set(FORMS)
    assert len(SENT) > 40


def test_the_client_knows_every_frame_that_the_gateway_sends_and_no_others() -> None:
    assert set(FORMS) == {said.op for said in SENT}


@pytest.mark.parametrize("said", SENT, ids=lambda said: said.op)
def test_a_frame_has_the_fields_that_the_client_reads(said: Said) -> None:
    assert any(takes(form, said) for form in FORMS[said.op]), FORMS[said.op]


@pytest.mark.parametrize("op", FORMS)
def test_a_field_that_the_client_reads_is_sent_by_some_part_of_the_gateway(op: str) -> None:
    told = {name for said in SENT if said.op == op for name in said.fields | said.some}
    assert {name for form in FORMS[op] for name in form.fields} - {"op"} <= told


# --- events and what answers carry ------------------------------------------------------------------


def test_an_event_has_the_fields_of_the_clients_type() -> None:
    event = interface("FabricEvent")
    forms = [frozenset(orjson.loads(event_json(each))) for each in (record(1), delta(2, "a", 0))]
    assert event.fields == forms[0] | forms[1]
    # Compact deltas have no time: `expand` in frames.ts.
    assert event.required == (forms[0] & forms[1]) - {"ts"}


def test_what_is_left_out_of_an_event_in_a_frame_is_what_the_client_puts_back() -> None:
    both = [record(1), record(2)]
    whole, cut = orjson.loads(events_payload(1, both))["events"]
    match = re.search(r"return \{ \.\.\.event, (.*?) \};", (SRC / "frames.ts").read_text())
    assert match is not None
    assert set(whole) - set(cut) == set(re.findall(r"\b(type|actor|run|ts|id|body|at)\b", match[1]))
    match = re.search(r"^export type WireEvent = .*Pick<FabricEvent, (.*?)>;", WORDS, re.MULTILINE)
    assert match is not None
    assert set(re.findall(r'"(\w+)"', match[1])) == set(cut) - {"id"}


RECORD = SessionRecord(tenant="default", session="s1", created=1, segments=())
RUN = Run("r1", "running", "agent:a", ZERO)
# Of each type the fields that the gateway says; those behind it over HTTP alone.
CARRIED: list[tuple[str, str, set[str], set[str]]] = [
    ("words", "AgentConnection", set(Absence._fields), set()),
    ("words", "Member", set(Member._fields), set()),
    ("words", "SessionRecord", set(RECORD.public()), {"head"}),
    ("words", "Limits", {*Limits.model_fields, "rates"}, set()),
    ("words", "StatePush", {"op", "session", *State._fields}, set()),
    ("life/state", "DocumentState", set(State._fields), set()),
    ("life/requests", "Claim", set(Claim._fields), set()),
    ("life/runs", "RunRecord", {field.name for field in dataclasses.fields(RUN)}, set()),
    ("life/runs", "PolicyFields", set(Policy.model_fields), set()),
    ("life/floors", "FloorState", set(FloorState("default").plain()), set()),
    ("life/floor", "FloorHolder", set(FloorState("default").plain()), set()),
]


@pytest.mark.parametrize(
    ("file", "name", "said", "besides"), CARRIED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_an_answer_carries_has_the_fields_of_the_clients_type(
    file: str, name: str, said: set[str], besides: set[str]
) -> None:
    assert interface(name, (SRC / f"{file}.ts").read_text()).fields == said | besides


def test_an_open_request_has_the_fields_of_the_clients_type() -> None:
    asked = Request("q1", "form", "r1", None, ZERO, 1, None, {})
    found = interface("OpenRequest", (SRC / "life/requests.ts").read_text())
    assert found.required == set(asked.public())
    body = dict.fromkeys([*found.fields, "other"])
    assert found.fields == set(dataclasses.replace(asked, body=body).public())
