"""What a token grants: what it says, and nothing that it does not say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.grants import OPERATIONS, ROLE_DEFAULTS, Grants, of_role, parse
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_session

EACH = [*sorted(OPERATIONS - {"*", "control:*"}), "state:plan"]
_FIRST = "abcXYZ019"
_REST = _FIRST + "_:@~-"
NAMES = st.builds(str.__add__, st.sampled_from(_FIRST), st.text(_REST, max_size=12))
PREFIXES = NAMES.map(lambda name: f"{name}*")
PATTERNS = st.one_of(NAMES, PREFIXES, st.just("*"))
LISTS = st.lists(st.sampled_from([*EACH, "*", "control:*", "state:*", "state:notes-*"]), min_size=1, max_size=8)
CLAIMS = st.dictionaries(PATTERNS, LISTS, min_size=1, max_size=8)

TEXTS = st.text(max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("pattern", "session", "fits"),
    [
        ("chat-42", "chat-42", True),
        ("chat-42", "chat-421", False),
        ("chat-42", "chat-4", False),
        ("chat-*", "chat-", True),
        ("chat-*", "chat-42", True),
        ("chat-*", "chat", False),
        ("chat-*", "xchat-42", False),
        ("c*", "chat", True),
        ("c*", "Chat", False),
        ("*", "anything:at~all", True),
        ("a@b:c~d-e_f", "a@b:c~d-e_f", True),
    ],
)
def test_a_pattern_is_a_name_or_the_beginning_of_one(pattern: str, session: str, fits: bool) -> None:
    grants = parse({pattern: ["read"]})
    assert grants.allows(session, "read") is fits
    assert not grants.allows(session, "append")


@pytest.mark.parametrize(
    ("granted", "operation", "allowed"),
    [
        ("control:*", "control:cancel", True),
        ("control:*", "control:redirect", True),
        ("control:cancel", "control:cancel", True),
        ("control:cancel", "control:steer", False),
        ("control:*", "read", False),
        ("state:plan", "state:plan", True),
        ("state:plan", "state:plan2", False),
        ("state:*", "state:plan", True),
        ("state:notes-*", "state:notes-1", True),
        ("state:notes-*", "state:plan", False),
        ("state:*", "read", False),
        ("*", "erase", True),
        ("*", "state:plan", True),
        ("*", "control:steer", True),
        ("read", "state:plan", False),
    ],
)
def test_an_operation_is_granted_by_name_or_by_its_family(granted: str, operation: str, allowed: bool) -> None:
    assert parse({"s1": [granted]}).allows("s1", operation) is allowed


def test_what_several_patterns_grant_adds_up() -> None:
    grants = parse({"chat-*": ["read"], "chat-42": ["append"], "*": ["presence"]})
    assert {op for op in EACH if grants.allows("chat-42", op)} == {"read", "append", "presence"}
    assert {op for op in EACH if grants.allows("chat-1", op)} == {"read", "presence"}
    assert [(p.text, p.prefix) for p in grants.patterns_for("read")] == [("chat-", True)]
    assert [(p.text, p.prefix) for p in grants.patterns_for("erase")] == []


STRANGE = [
    *(
        "",
        ">",
        "chat.>",
        "chat.*",
        "chat.42",
        "*.chat",
        "a*b",
        "**",
        "*a",
        "chat-**",
        "chat?",
        "[ab]*",
        "^chat",
        "chat$",
    ),
    *(
        "(a|b)",
        "chat|x",
        "chat\\d",
        "chat 42",
        " chat",
        "chat\n",
        "chat\x00",
        "chat\u202e",
        "é",
        "-chat",
        "_tools",
        "/",
    ),
    *("c" * 129, "c" * 256, "c" * 129 + "*", "$SYS", "sf.ev.>", "chat,x", "%2a"),
]


@pytest.mark.parametrize("pattern", STRANGE)
def test_what_looks_like_a_subject_or_a_regular_expression_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse({pattern: ["read"]})
    assert f"{pattern!r:.80}" in refused.value.message
    with pytest.raises(InvalidRequest):
        parse({"s1": [f"state:{pattern} "]})


@pytest.mark.parametrize(
    "operation",
    [
        "raed",
        "Read",
        "READ",
        "control",
        "control:",
        "control:kill",
        "state",
        "state:",
        "state:>",
        "read ",
        "",
        "re*",
        "**",
    ],
)
def test_an_operation_that_is_none_is_refused_by_name(operation: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse({"s1": ["read", operation]})
    assert repr(operation) in refused.value.message or repr(operation.removeprefix("state:")) in refused.value.message


ODD: list[Any] = [
    *(None, [], {}, "read", 7, True, {"s1": None}, {"s1": []}, {"s1": "read"}, {"s1": {"read": True}}, {"s1": 7}),
    *({"s1": [None]}, {"s1": [["read"]]}, {"s1": [{}]}, {"s1": [1]}, {7: ["read"]}, {("s1",): ["read"]}),
]


@pytest.mark.parametrize("claim", ODD, ids=repr)
def test_a_claim_of_another_form_is_refused(claim: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse(claim)


def test_a_claim_has_at_most_64_patterns_of_32_operations() -> None:
    many = {f"s{number}": [f"state:d{number}" for number in range(32)] for number in range(64)}
    assert parse(many).allows("s63", "state:d31")
    with pytest.raises(InvalidRequest, match="65 patterns; 64 is the most"):
        parse(many | {"one-more": ["read"]})
    with pytest.raises(InvalidRequest, match="33 operations"):
        parse({"s1": ["read"] * 33})


@given(CLAIMS, NAMES, st.sampled_from(EACH))
def test_an_operation_is_allowed_only_where_a_pattern_that_fits_lists_it(
    claim: dict[str, list[str]], session: str, operation: str
) -> None:
    check_session(session)
    fitting = [
        listed
        for pattern, listed in claim.items()
        if pattern == session or (pattern.endswith("*") and session.startswith(pattern[:-1]))
    ]
    family = operation.partition(":")[0]
    enough = {operation, "*", *({f"{family}:*"} if ":" in operation else ())}
    expected = any(enough & set(listed) for listed in fitting)
    assert parse(claim).allows(session, operation) is expected


@given(CLAIMS, CLAIMS, NAMES, st.sampled_from(EACH))
def test_more_patterns_never_grant_less(
    one: dict[str, list[str]], two: dict[str, list[str]], session: str, operation: str
) -> None:
    both = {pattern: [*one.get(pattern, []), *two.get(pattern, [])] for pattern in {**one, **two}}
    assert parse(both).allows(session, operation) is (
        parse(one).allows(session, operation) or parse(two).allows(session, operation)
    )


@given(JSON)
def test_whatever_the_claim_is_it_is_granted_or_refused(claim: Any) -> None:
    try:
        grants = parse(json.loads(json.dumps(claim)))
    except InvalidRequest:
        return
    assert isinstance(grants, Grants)


def test_in_a_session_that_is_taken_out_nothing_is_granted() -> None:
    grants = Grants(parse({"*": ["*"]}).rules, without=frozenset({"chat-42"}))
    assert not any(grants.allows("chat-42", operation) for operation in EACH)
    assert grants.allows("chat-4", "read")


@pytest.mark.parametrize("role", sorted(ROLE_DEFAULTS))
def test_no_role_erases_unless_a_token_says_so(role: str) -> None:
    assert not of_role(role).allows("s1", "erase")
    assert of_role(role).allows("s1", "read")


def test_those_who_are_not_operators_supervise_nothing() -> None:
    assert {role for role in ROLE_DEFAULTS if of_role(role).allows("s1", "supervise")} == {
        "operator",
        "supervisor",
        "service",
    }
