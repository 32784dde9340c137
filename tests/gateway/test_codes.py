"""Codes: every error has its status, as the protocol says."""

from __future__ import annotations

import re
from pathlib import Path

from session_fabric.words import errors
from session_fabric.words.errors import FabricError, IdConflict, LocalTrouble
from session_fabric_gateway import codes
from session_fabric_gateway.codes import STATUS, Close, facts_of

PROTOCOL = (Path(__file__).parents[2] / "docs/protocol.md").read_text()


def classes(of: type[FabricError]) -> set[type[FabricError]]:
    return {of}.union(*(classes(one) for one in of.__subclasses__()))


def test_the_statuses_are_those_of_the_protocol() -> None:
    told: dict[str, int] = {}
    for names, status in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (\d{3}) \|", PROTOCOL, re.MULTILINE):
        told |= dict.fromkeys(re.findall(r"`(\w+)`", names), int(status))
    assert told == STATUS


def test_every_error_that_can_be_answered_has_a_status() -> None:
    ours = {one for one in classes(FabricError) if one.__module__ == errors.__name__ and not one.__subclasses__()}
    # Raised in an agent's process, or an operator's, and never on the way to a client.
    inside = {"unavailable", "request_expired", "tool_failed", "lease_lost", "nobody_answers", "move_under_way"}
    assert {one.code for one in ours if not issubclass(one, LocalTrouble)} - inside <= set(STATUS)


def test_the_close_codes_are_those_of_the_protocol() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d{4}) \|", PROTOCOL, re.MULTILINE)}
    ours = {value.code for value in vars(codes).values() if isinstance(value, Close)}
    assert told == ours | {1000}


def test_facts_are_told_beside_the_code_and_never_over_it() -> None:
    facts = facts_of(IdConflict("said", hint="do", offset="x", id="e1", op="y"))
    assert facts == {"offset": "x", "code": "id_conflict", "message": "said", "retryable": False, "hint": "do"}


def test_what_nobody_expected_is_internal_and_may_be_tried_again() -> None:
    assert (facts_of(FabricError("x"))["code"], facts_of(FabricError("x"))["retryable"]) == ("internal", True)
