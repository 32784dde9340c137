"""The TypeScript client's words against the gateway's own models: what it may send is what is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from session_fabric_gateway.capabilities import registry
from session_fabric_gateway.operations import Frozen

WORDS = (Path(__file__).parents[2] / "clients/typescript/src/words.ts").read_text()
# A number for the answer, which its connection puts on; and what does not go over the socket by its name.
OWN = {"id", "trace", "via"}
# What only operators ask, which the client does not.
NOT_THE_CLIENTS = {"retention", "retention.set", "hold", "release", "redact"}


def models() -> dict[str, type[Frozen]]:
    """The gateway's operations by name."""
    assert registry is not None  # its import makes the capabilities' models known
    found: dict[str, type[Frozen]] = {}
    left = [Frozen]
    while left:
        model = left.pop()
        left += model.__subclasses__()
        if "op" in model.model_fields:
            found[get_args(model.model_fields["op"].annotation)[0]] = model
    return found


def section(name: str) -> str:
    match = re.search(rf"^export type {name} =(.*?);\n\n", WORDS, re.MULTILINE | re.DOTALL)
    assert match is not None, f"words.ts has no {name}"
    return match[1]


def frames() -> dict[str, dict[str, bool]]:
    """The fields of each frame that words.ts writes out, and whether each must be there."""
    found = {}
    for op, rest in re.findall(r'^  \| \{ op: "([\w.]+)";?(.*)\}$', section("ClientFrame"), re.MULTILINE):
        flat = re.sub(r"\{[^{}]*\}", "object", rest)
        found[op] = {name: optional == "" for name, optional in re.findall(r"(\w+)(\??):", flat)}
    return found


OPERATIONS = models()
FRAMES = frames()
OTHERS = re.findall(r'"([\w.]+)"', section("OtherOp"))


def test_there_are_frames_and_operations() -> None:
    assert {"hello", "open", "append", "control"} <= set(FRAMES)
    assert {"who", "answer", "state.put"} <= set(OTHERS)


def test_the_typescript_client_has_the_gateways_operations_and_no_others() -> None:
    assert {*FRAMES, *OTHERS} == set(OPERATIONS) - NOT_THE_CLIENTS


@pytest.mark.parametrize("op", FRAMES)
def test_a_frame_of_the_typescript_client_has_the_fields_of_the_gateways_model(op: str) -> None:
    fields, model = FRAMES[op], OPERATIONS[op].model_fields
    assert set(fields) - OWN == set(model) - OWN - {"op"}
    required = {name for name, field in model.items() if field.is_required()} - OWN - {"op"}
    assert required <= {name for name, needed in fields.items() if needed}


def test_what_only_the_client_may_choose_is_chosen_as_the_gateway_takes_it() -> None:
    for name, op, field in (("View", "open", "view"), ("ControlAction", "control", "action")):
        match = re.search(rf"^export type {name} = (.*);$", WORDS, re.MULTILINE)
        assert match is not None
        assert set(re.findall(r'"(\w+)"', match[1])) == set(get_args(OPERATIONS[op].model_fields[field].annotation))
