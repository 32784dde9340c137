"""Names, bodies and bytes of shared documents."""

from __future__ import annotations

from typing import Any

import pytest
from session_fabric.rules import states
from session_fabric.rules.states import State
from session_fabric.words.errors import Forbidden, InvalidName, InvalidRequest, TooLarge


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 129, None, 7])
def test_a_document_has_the_name_of_an_id(name: object) -> None:
    with pytest.raises(InvalidName):
        states.check_document(name)


def test_names_with_an_underscore_in_front_are_the_fabrics_own() -> None:
    assert states.check_document("_tools") == "_tools"
    with pytest.raises(InvalidRequest, match="_plan"):
        states.check_document("_plan")
    with pytest.raises(Forbidden, match="_seen"):
        states.check_writable("_seen")


@pytest.mark.parametrize("body", [None, 1, "text", [], [1], True])
def test_a_body_that_is_no_object_is_refused_by_its_kind(body: Any) -> None:
    with pytest.raises(InvalidRequest, match=type(body).__name__):
        states.check_body("plan", body)


def test_a_body_that_is_no_json_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    for body in ({"a": object()}, {1: 2}, {"a": 2**70}, deep):
        with pytest.raises(InvalidRequest, match="plan"):
            states.check_body("plan", body)


def test_a_body_may_have_the_limit_and_not_a_byte_more() -> None:
    around = len(b'{"a":""}')
    body = {"a": "x" * (states.MOST_BYTES - around)}
    assert states.check_body("plan", body) == body
    with pytest.raises(TooLarge) as refused:
        states.check_body("plan", {"a": body["a"] + "x"})
    assert refused.value.facts["limit"] == 256 * 1024


@pytest.mark.parametrize("revision", [-1, 1.0, "3", True])
def test_a_revision_is_a_number_that_the_fabric_gives(revision: object) -> None:
    with pytest.raises(InvalidRequest, match="revision"):
        states.check_revision(revision)


@pytest.mark.parametrize("body", [None, {}, {"a": [1, {"b": None}]}])
def test_what_is_spelled_is_read(body: dict[str, Any] | None) -> None:
    assert states.read("plan", 3, states.spell(body, "user:ada", 5)) == State("plan", 3, body, "user:ada", 5)


@pytest.mark.parametrize("value", [None, b"", b"no JSON", b"7", b"{}", b'{"by":1,"ts":2,"body":{}}', b'{"by":"x"}'])
def test_what_a_stranger_wrote_that_is_no_document_counts_as_none(value: bytes | None) -> None:
    assert states.read("plan", 3, value) == State("plan", 3, None, None, None)
