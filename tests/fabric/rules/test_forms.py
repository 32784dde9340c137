"""Forms' schemas: what may be in one, and that none keeps whoever holds an answer against it for long."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import pytest
from session_fabric.rules.forms import MAX_DEPTH, MAX_LOOKS, MAX_PARTS, MAX_PATTERNS, MAX_SCHEMA_BYTES, Form
from session_fabric.words.errors import InvalidRequest

ADDRESS = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z ]+$"},
        "size": {"$ref": "#/$defs/size"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"size": {"enum": ["s", "m"]}},
}


@pytest.mark.parametrize("body", [{"name": "ada l"}, {"name": "a", "size": "s", "tags": ["x", "y"]}])
def test_what_fits_is_an_answer(body: Any) -> None:
    Form(ADDRESS).check(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "ADA"}, r"at \$.name"),
        ({"size": "s"}, '"name" is a required property'),
        ({"name": "a", "size": "xl"}, r"at \$.size"),
        ({"name": "a", "tags": ["x", "x"]}, r"at \$.tags"),
        ({"name": "a", "more": 1}, "Additional properties"),
        ([], "is not of type"),
    ],
)
def test_what_does_not_fit_is_refused_by_a_sentence_that_says_where(body: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Form(ADDRESS).check(body)


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "(", "a{1000}{1000}", "(.*?,){2000}P", r"(?<!x)y"])
@pytest.mark.parametrize("where", ["pattern", "patternProperties"])
def test_a_pattern_that_may_take_for_ever_is_refused(pattern: str, where: str) -> None:
    one = {"pattern": pattern} if where == "pattern" else {"patternProperties": {pattern: {}}}
    with pytest.raises(InvalidRequest, match=r"pattern .* cannot be used") as refused:
        Form({"properties": {"x": one}})
    assert "look-around" in refused.value.hint


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(a|aa)+$"])
def test_a_pattern_on_which_backtracking_dies_is_matched(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="does not fit"):
        Form({"type": "string", "pattern": pattern}).check("a" * 100_000 + "!")


def test_a_pattern_means_what_it_means_in_javascript() -> None:
    form = Form({"pattern": r"^\d+$"})
    form.check("12")
    for other in ("1２", "12\n"):
        with pytest.raises(InvalidRequest):
            form.check(other)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"child": {"$ref": "#"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}}},
    ],
)
def test_a_schema_that_refers_to_itself_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequest, match="refers to itself"):
        Form(schema)


def test_a_schema_that_unfolds_to_very_many_parts_is_refused() -> None:
    definitions = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(14)}
    with pytest.raises(InvalidRequest, match=f"{MAX_PARTS} is the most") as refused:
        Form({"$ref": "#/$defs/d0", "$defs": {**definitions, "d14": {"type": "string"}}})
    assert refused.value.facts["limit"] == MAX_PARTS


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("text", "The schema is 'text'"),
        ({"type": "sizes"}, "The schema is none"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, f"{MAX_SCHEMA_BYTES} is the most"),
        ({"anyOf": [{"pattern": "a"}] * (MAX_PATTERNS + 1)}, f"{MAX_PATTERNS} is the most"),
        ({"$ref": "#/$defs/none"}, "has nothing at"),
        ({"$ref": "#size"}, "refers to '#size'"),
        ({"$ref": "#/$defs/a%25b", "$defs": {"a%25b": {}, "a%b": {}}}, "refers to"),
        ({"$id": "http://127.0.0.1:9/x"}, "has no [$]id"),
        ({"unevaluatedProperties": False}, "has no unevaluatedProperties"),
        ({"$dynamicRef": "#x"}, "has no [$]dynamicRef"),
    ],
)
def test_what_is_no_form_is_refused_by_a_sentence(schema: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Form(schema)


def test_a_schema_that_is_too_deep_is_refused_however_it_comes_to_be_deep() -> None:
    nested: Any = {}
    for _ in range(MAX_DEPTH + 1):
        nested = {"not": nested}
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(400)}
    for schema in (nested, {"$ref": "#/$defs/d0", "$defs": {**chain, "d400": {}}}):
        with pytest.raises(InvalidRequest, match="levels deep"):
            Form(schema)


@pytest.mark.parametrize("where", ["$ref", "$defs", "nothing"])
def test_nothing_that_a_schema_names_is_fetched(where: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        ref = {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/x"}
        schema: Any = {"$ref": ref, "$defs": {"$defs": {"x": ref}}, "nothing": {"nothing": ref}}[where]
        with suppress(InvalidRequest):
            Form(schema if where != "$ref" else ref).check({})
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_answer_that_would_take_too_long_to_be_looked_at_is_refused() -> None:
    wide = {"items": {"anyOf": [{"type": "string", "minLength": n} for n in range(100)]}}
    with pytest.raises(InvalidRequest, match="too large for a schema"):
        Form(wide).check([1] * MAX_LOOKS)
    many = {"items": {"anyOf": [{"pattern": f"^{n}$"} for n in range(MAX_PATTERNS)]}}
    with pytest.raises(InvalidRequest, match="too large for a schema"):
        Form(many).check(["x" * 200_000])
    Form(wide).check(["x" * 200] * 100)
